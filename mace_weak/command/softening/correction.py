"""The correction of a soft potential by one structure, and its effect on all the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from mace_weak.command.atomic_energies import fit_composition
from mace_weak.command.frames import Keys
from mace_weak.command.judging.evaluation import Judged, force_errors, forces_of
from mace_weak.command.judging.pictures import parity
from mace_weak.command.models import Model, Prediction, host_of, load_model, predict
from mace_weak.command.output import Finding, Result, Table
from mace_weak.command.progress import progress
from mace_weak.command.softening.labelled import (
    Labelled,
    chosen,
    elements_of,
    labelled_structures,
    on_level_of_model,
    structures_of,
    write_structure,
)
from mace_weak.command.trainer import run_trainer
from mace_weak.errors import WeakLossError
from mace_weak.versions import NEQUIP

BEFORE, AFTER = "before", "after"
LAST_LR = 0.01  # of the first
STRUCTURE, PICTURE, OUTPUT = "structure.xyz", "parity.png", "output.txt"


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

    Forces in meV/Å. Energies in meV/atom, after the best zero for each element: a level of theory
    has its own, and so has each model.
    """

    force_rmse: float
    slope: float
    spread: float
    energy_rmse: float


def softened(model: str, data: Path, settings: Settings) -> Result:
    """Tables before and after, findings, and the files that were written.

    Raises:
        WeakLossError: if the folder is in use, the labels do not suffice or the host fails.
    """
    out = settings.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeakLossError(f"'{out}' is in use: give a new folder by --out")
    labelled = labelled_structures(data, settings.keys)
    place = chosen(labelled, settings.index, data)
    old = load_model(model, device=settings.device)
    one_structure_of(model).require_trainable(model, old)
    predicted = predictions(old, labelled, BEFORE)
    labelled, level = on_level_of_model(labelled, predicted)
    product = fine_tuned(model, old, labelled[place], settings)
    new = load_model(str(product), device=settings.device)
    judged = {
        BEFORE: judge(labelled, predicted),
        AFTER: judge(labelled, predictions(new, labelled, AFTER)),
    }
    result = account(judged, place, labelled[place].number)
    result.notes.append(
        f"the energies of {data} were moved to the level of theory of the model, which the new one "
        "keeps, per atom: "
        + ", ".join(f"{symbol} {-energy:+.4f} eV" for symbol, energy in level.items())
    )
    parity_file = out / PICTURE
    parity({name: without(structures, place) for name, structures in judged.items()}).savefig(
        parity_file, dpi=120
    )
    result.written += [product, out / STRUCTURE, parity_file, out / OUTPUT]
    return result


def predictions(model: Model, labelled: Sequence[Labelled], name: str) -> list[Prediction]:
    """Predictions for all structures, with a bar called ``name``."""
    found = predict(model, structures_of(labelled))
    return list(progress(found, f"forces {name}", total=len(labelled)))


def judge(labelled: Sequence[Labelled], predicted: Sequence[Prediction]) -> list[Judged]:
    """Labels and predictions side by side."""
    return [
        Judged(one.atoms, {"energy": np.array(one.energy), "forces": one.forces}, prediction)
        for one, prediction in zip(labelled, predicted, strict=True)
    ]


def fine_tuned(model: str, old: Model, one: Labelled, settings: Settings) -> Path:
    """Train by the host's own command; returns the new model's file.

    Raises:
        WeakLossError: if the command fails.
    """
    host = one_structure_of(model)
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


def one_structure_of(model: str) -> ModuleType:
    """What trains on one structure, of the host of a model."""
    if host_of(model) == NEQUIP:
        from mace_weak.nequip import one_structure as of_nequip

        return of_nequip
    from mace_weak.mace import one_structure as of_mace

    return of_mace


def account(judged: Mapping[str, Sequence[Judged]], place: int, number: int) -> Result:
    """Tables and findings of both models, on the chosen structure and on all others."""
    formula = judged[BEFORE][place].atoms.get_chemical_formula()
    alone = [[name, *errors_on_one(structures[place])] for name, structures in judged.items()]
    others = {name: outcome(without(structures, place)) for name, structures in judged.items()}
    result = Result(
        tables=[
            Table(
                f"Structure {number}, {formula}, trained on",
                ("model", "forces, meV/Å", "force slope", "energy, meV/atom"),
                alone,
            ),
            Table(
                f"The other {len(judged[BEFORE]) - 1}, not trained on",
                ("model", "forces, meV/Å", "force slope", "±", "energy beside its zero, meV/atom"),
                [[name, *astuple(own)] for name, own in others.items()],
            ),
        ]
    )
    result.findings += no_better(others[BEFORE], others[AFTER])
    return result


def errors_on_one(one: Judged) -> tuple[float, float, float]:
    """RMSE of the forces in meV/Å, their slope, and the error of the energy in meV/atom."""
    _, force_rmse, _, slope, _ = force_errors(*forces_of([one]))
    return force_rmse, slope, one.energy_error


def without(structures: Sequence[Judged], place: int) -> list[Judged]:
    """All but one."""
    return [one for number, one in enumerate(structures) if number != place]


def outcome(structures: Sequence[Judged]) -> Outcome:
    """Errors on several structures."""
    _, force_rmse, _, slope, spread = force_errors(*forces_of(structures))
    frames = [one.atoms for one in structures]
    errors = [one.prediction.energy - float(one.labels["energy"]) for one in structures]
    fit = fit_composition(frames, np.array(errors), elements_of(frames))
    return Outcome(force_rmse, slope, spread, fit.rmse)


def no_better(before: Outcome, after: Outcome) -> Iterator[Finding]:
    """A slope that is not nearer to 1, and a force error that grew."""
    gentler = "train more gently: a lower --lr, fewer --epochs, or another --index"
    if not abs(after.slope - 1) < abs(before.slope - 1):
        yield Finding(
            f"the force slope went from {before.slope:.3f} to {after.slope:.3f}, no nearer to 1",
            gentler,
        )
    if not after.force_rmse <= before.force_rmse:
        yield Finding(
            f"the force error grew from {before.force_rmse:.4g} to {after.force_rmse:.4g} meV/Å",
            gentler,
        )
