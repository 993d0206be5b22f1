"""``mace-weak soften``: correct a soft potential by one structure; its effect on all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from mace_weak.command.figures import parity
from mace_weak.command.hosts import one_structure_host, run_trainer
from mace_weak.command.model_errors import Predicted, errors_of
from mace_weak.command.models import Model, load_model, predict
from mace_weak.command.output import Finding, Result, Table, progress
from mace_weak.compositions import elements_of, fit_elements
from mace_weak.errors import WeakLossError
from mace_weak.keys import ENERGY_KEY, FORCES_KEY
from mace_weak.structures import Keys, Prediction, bare, is_isolated_atom, read_labelled

BEFORE, AFTER = "before", "after"
LAST_LR = 0.01  # of the first
STRUCTURE, FIGURE, OUTPUT = "structure.xyz", "parity.png", "output.txt"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of ``mace-weak soften``."""

    keys: Keys
    index: int | None
    epochs: int
    lr: float
    device: str
    out: Path


@dataclass(frozen=True)
class Outcome:
    """Errors on the structures that were not trained on.

    Forces in meV/Å. Energies in meV/atom, after the best zero for each element, in which levels of
    theory and models differ.
    """

    force_rmse: float
    slope: float
    slope_error: float
    energy_rmse: float


@dataclass(frozen=True)
class Labelled:
    """A structure, its number in the file, its energy in eV and forces (n_atoms, 3) in eV/Å."""

    number: int
    atoms: Atoms
    energy: float
    forces: np.ndarray


def soften_model(model: str, data: Path, settings: Settings) -> Result:
    """Tables before and after, findings, and the files that were written.

    Raises:
        WeakLossError: if the folder is in use, the labels do not suffice or the host fails.
    """
    out = settings.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeakLossError(f"'{out}' is in use: give a new folder by --out")
    labelled = labelled_structures(data, settings.keys)
    place = chosen_place(labelled, settings.index, data)
    old = load_model(model, device=settings.device)
    one_structure_host(model).require_trainable(model, old)
    predicted = predictions(old, labelled, BEFORE)
    labelled, level = on_models_level(labelled, predicted)
    product = train_on_one(model, old, labelled[place], settings)
    new = load_model(str(product), device=settings.device)
    found = {
        BEFORE: with_labels(labelled, predicted),
        AFTER: with_labels(labelled, predictions(new, labelled, AFTER)),
    }
    result = compare(found, place, labelled[place].number)
    result.notes.append(
        f"The energies of {data} were shifted to the level of theory of the model, which the new "
        "model keeps, per atom: "
        + ", ".join(f"{symbol} {-energy:+.4f} eV" for symbol, energy in level.items())
    )
    parity_file = out / FIGURE
    parity({name: without(structures, place) for name, structures in found.items()}).savefig(
        parity_file, dpi=120
    )
    result.written += [product, out / STRUCTURE, parity_file, out / OUTPUT]
    return result


def predictions(model: Model, labelled: Sequence[Labelled], name: str) -> list[Prediction]:
    """Predictions for all structures, with a progress bar."""
    predicted = predict(model, structures_of(labelled))
    return list(progress(predicted, f"forces {name}", total=len(labelled)))


def with_labels(labelled: Sequence[Labelled], predicted: Sequence[Prediction]) -> list[Predicted]:
    """Labels and predictions side by side."""
    return [
        Predicted(one.atoms, {"energy": np.array(one.energy), "forces": one.forces}, prediction)
        for one, prediction in zip(labelled, predicted, strict=True)
    ]


def train_on_one(model: str, old: Model, one: Labelled, settings: Settings) -> Path:
    """Train by the host's command; returns the new model's file.

    Raises:
        WeakLossError: if the command fails.
    """
    host = one_structure_host(model)
    out = settings.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_structure(out / STRUCTURE, one)
    arguments = host.one_structure_arguments(
        model, old, out / STRUCTURE, out,
        epochs=settings.epochs, lr=settings.lr, gamma=LAST_LR ** (1 / settings.epochs),
        device=settings.device,
    )  # fmt: skip
    run_trainer(host.COMMAND, arguments, out / OUTPUT)
    return settings.out / host.PRODUCT


def compare(found: Mapping[str, Sequence[Predicted]], place: int, number: int) -> Result:
    """Tables and findings of both models, on the chosen structure and on all others."""
    formula = found[BEFORE][place].atoms.get_chemical_formula()
    alone = [[name, *errors_on_one(structures[place])] for name, structures in found.items()]
    others = {name: outcome(without(structures, place)) for name, structures in found.items()}
    result = Result(
        tables=[
            Table(
                f"Structure {number}, {formula}, trained on",
                ("model", "forces, meV/Å", "force slope", "energy, meV/atom"),
                alone,
            ),
            Table(
                f"The other {len(found[BEFORE]) - 1}, not trained on",
                ("model", "forces, meV/Å", "force slope", "±", "energy after its zero, meV/atom"),
                [[name, *astuple(one)] for name, one in others.items()],
            ),
        ]
    )
    result.findings += not_better(others[BEFORE], others[AFTER])
    return result


def errors_on_one(one: Predicted) -> tuple[float, float, float]:
    """RMSE of the forces in meV/Å, their slope, and the error of the energy in meV/atom."""
    errors = errors_of([one])
    return errors.force_rmse, errors.slope, float(errors.energy[0])


def without(structures: Sequence[Predicted], place: int) -> list[Predicted]:
    """All but one."""
    return [one for number, one in enumerate(structures) if number != place]


def outcome(structures: Sequence[Predicted]) -> Outcome:
    """Errors on several structures."""
    errors = errors_of(structures)
    frames = [one.atoms for one in structures]
    gaps = [one.prediction.energy - float(one.labels["energy"]) for one in structures]
    energy_rmse = fit_elements(frames, gaps).rmse
    return Outcome(errors.force_rmse, errors.slope, errors.slope_error, energy_rmse)


def not_better(before: Outcome, after: Outcome) -> Iterator[Finding]:
    """A slope that is not closer to 1, and a force error that grew."""
    gentler = "train more gently: a lower --lr, fewer --epochs, or another --index"
    if not abs(after.slope - 1) < abs(before.slope - 1):
        yield Finding(
            f"the force slope went from {before.slope:.3f} to {after.slope:.3f}, not closer to 1",
            gentler,
        )
    if not after.force_rmse <= before.force_rmse:
        yield Finding(
            f"the force error grew from {before.force_rmse:.4g} to {after.force_rmse:.4g} meV/Å",
            gentler,
        )


def labelled_structures(path: Path, keys: Keys) -> list[Labelled]:
    """The structures of a file that have an energy and forces, all of them finite.

    Raises:
        WeakLossError: if there are fewer than two.
    """
    found = []
    for number, (_, atoms, labels) in enumerate(read_labelled(path, keys)):
        energy, forces = labels.get("energy"), labels.get("forces")
        if energy is None or forces is None or is_isolated_atom(atoms):
            continue
        if np.isfinite(energy) and np.isfinite(forces).all():
            found.append(Labelled(number, bare(atoms), float(energy), forces))
    if len(found) < 2:
        raise WeakLossError(
            f"'{path}' has {len(found)} structures with '{keys.energy}' and '{keys.forces}', but "
            "one to train on and others to compare are needed: check --energy-key and --forces-key"
        )
    return found


def chosen_place(labelled: Sequence[Labelled], index: int | None, path: Path) -> int:
    """Place of the structure numbered ``index``, or of that with the highest energy.

    The energy is that per atom, beyond what the composition explains.

    Raises:
        WeakLossError: if the structure numbered ``index`` has no labels.
    """
    if index is None:
        energies = [one.energy for one in labelled]
        return int(np.argmax(fit_elements(structures_of(labelled), energies).residuals))
    for place, one in enumerate(labelled):
        if one.number == index:
            return place
    raise WeakLossError(
        f"'{path}' has no structure {index} with energy and forces: count from 0, or leave out "
        "--index"
    )


def structures_of(labelled: Sequence[Labelled]) -> list[Atoms]:
    """The structures alone."""
    return [one.atoms for one in labelled]


def on_models_level(
    labelled: Sequence[Labelled], predicted: Sequence[Prediction]
) -> tuple[list[Labelled], dict[str, float]]:
    """The same on the model's level of theory, and the shift of each element's energy, eV.

    A model that had to learn the difference between two levels from one structure would spoil its
    forces.
    """
    frames = structures_of(labelled)
    gaps = [one.energy - other.energy for one, other in zip(labelled, predicted, strict=True)]
    level = fit_elements(frames, gaps).by_element(elements_of(frames))
    moved = [
        replace(one, energy=one.energy - sum(level[symbol] for symbol in one.atoms.symbols))
        for one in labelled
    ]
    return moved, level


def write_structure(path: Path, one: Labelled) -> None:
    """Write a structure as both hosts read it by default."""
    atoms = bare(one.atoms)
    atoms.info[ENERGY_KEY] = one.energy
    atoms.arrays[FORCES_KEY] = one.forces
    write(path, atoms, format="extxyz")
