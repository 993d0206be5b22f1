"""Structures, their labels and predictions for them: read by key, checked, and put into batches.

ASE is imported where it is needed, as the core alone works without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mace_weak.errors import WeakLossError
from mace_weak.keys import ENERGY_KEY, FORCES_KEY, ISOLATED, STRESS_KEY
from mace_weak.misread import ASE_KEYS, Problem, held_atoms, unplaced, unread_by_mace

if TYPE_CHECKING:
    from ase import Atoms

# Atoms in a batch of predictions. On a processor larger ones are slower, as they leave its cache.
BATCH_ATOMS, BATCH_ATOMS_GPU = 128, 1000
REACH = 6.0  # Å, as far as atoms see each other in foundation models
TENSOR = "six or nine numbers"
EXPECTED = {
    "energy": "a number, eV",
    "forces": "three numbers for each atom, eV/Å",
    "stress": f"{TENSOR}, eV/Å³",
    "virials": f"{TENSOR}, eV",
}

# What the energy of some models depends on beside the atoms, by the names that MACE's trainings
# read in files; the second names are those that its calculator reads.
STATE = {
    "total_charge": ("total_charge", "charge"),
    "total_spin": ("total_spin", "spin"),
    "elec_temp": ("elec_temp",),
    "external_field": ("external_field",),
}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Prediction:
    """Energy in eV, forces (n_atoms, 3) in eV/Å, stress (6,) in eV/Å³ of a periodic structure."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


@dataclass(frozen=True)
class Keys:
    """Names under which a file has its labels; None for a label that is not read."""

    energy: str | None = ENERGY_KEY
    forces: str | None = FORCES_KEY
    stress: str | None = STRESS_KEY
    virials: str | None = None

    def label(self, atoms: Atoms, name: str) -> np.ndarray | None:
        """The label called ``name`` here, wherever ASE put it, or None.

        Forces in the comment line count as none: the hosts do not look there.

        Energies () in eV, forces (n_atoms, 3) in eV/Å, stress (6,) in eV/Å³ and virials (6,) in eV
        in Voigt's order.

        Raises:
            WeakLossError: if the value has another shape, or is not numeric.
        """
        from ase.stress import full_3x3_to_voigt_6_stress

        key = getattr(self, name)
        if key is None or (name == "forces" and key in atoms.info):
            return None
        value = label_value(atoms, key)
        if value is None:
            return None
        try:
            array = np.asarray(value, dtype=float)
            if EXPECTED[name].startswith(TENSOR) and array.shape != (6,):
                return full_3x3_to_voigt_6_stress(array.reshape(3, 3))
            shapes = {"energy": (), "forces": (len(atoms), 3)}
            return array.reshape(shapes.get(name, (6,)))
        except (TypeError, ValueError):
            raise WeakLossError(
                f"invalid {name} under key '{key}', expected {EXPECTED[name]}: "
                f"'{_shortened(value)}': correct or remove it"
            ) from None

    def labels(self, atoms: Atoms) -> dict[str, np.ndarray]:
        """All labels that a structure has, by their names here, but those of weight zero."""
        found = self._present(atoms)
        return {name: value for name, value in found.items() if weight_of(atoms, name) > 0}

    def weights(self, atoms: Atoms) -> dict[str, float]:
        """The weights of all labels that a structure has."""
        return {name: weight_of(atoms, name) for name in self._present(atoms)}

    def _present(self, atoms: Atoms) -> dict[str, np.ndarray]:
        found = {field.name: self.label(atoms, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


def weight_of(atoms: Atoms, label: str) -> float:
    """The weight that MACE's trainings give a label of a structure; 0 switches it off.

    Raises:
        WeakLossError: if it is no number.
    """
    weight = 1.0
    for key in ("config_weight", f"config_{label}_weight"):
        value = atoms.info.get(key, 1.0)
        try:
            weight *= float(value)
        except (TypeError, ValueError):
            raise WeakLossError(
                f"{key} is '{_shortened(value)}', which is no number: correct or remove it"
            ) from None
    return weight


def _results(atoms: Atoms) -> dict[str, Any]:
    """What ASE keeps with the calculator, as it does with labels under its own names."""
    return atoms.calc.results if atoms.calc is not None else {}


def label_value(atoms: Atoms, key: str) -> Any:
    """A label by its key, wherever ASE put it; None if it is not there."""
    results = _results(atoms)
    for place in (atoms.info, atoms.arrays, results):
        if key in place:
            return place[key]
    return None


def unread(atoms: Atoms, keys: Keys) -> Iterator[Problem]:
    """Labels of a structure that MACE misses, or reads as something else, where ASE put them."""
    results = _results(atoms)
    for label in (field.name for field in fields(keys)):
        key = getattr(keys, label)
        elsewhere = key in atoms.info or key in atoms.arrays
        if key in results and key not in ASE_KEYS and not elsewhere:
            yield unread_by_mace(label, key)
    if atoms.constraints and "forces" in results and (problem := held_atoms(keys.forces)):
        yield problem


def has_others(atoms: Atoms, keys: Keys) -> bool:
    """Whether ASE's own labels of a structure differ from those under the keys."""
    results = _results(atoms)
    pairs = (
        (results.get(name), keys.label(atoms, name))
        for name in ASE_KEYS
        if getattr(keys, name) != name
    )
    return any(
        value is not None and label is not None and not np.allclose(value, label, equal_nan=True)
        for value, label in pairs
    )


def _shortened(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:40]}…"


def finite(labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The labels without NaN and infinity."""
    return {name: value for name, value in labels.items() if np.all(np.isfinite(value))}


def read_structures(path: Path) -> Iterator[Atoms]:
    """The structures of a file, one at a time.

    Raises:
        WeakLossError: if the file is missing, empty or cannot be read, a position or cell vector
            is NaN or infinite, or a structure has no atoms or is periodic without a cell.
    """
    from ase.io import iread

    if not path.is_file():
        raise WeakLossError(f"there is no file '{path}'")
    if "@" in path.name:
        raise WeakLossError(
            f"'{path}' has an @ in its name, after which ASE and MACE read the number of a "
            "structure: rename it"
        )
    count = 0
    try:
        for atoms in iread(path, index=":"):
            if problem := unplaced(atoms.positions, atoms.cell.array, atoms.pbc):
                raise WeakLossError(f"{_place(path, count)}: {problem}")
            yield atoms
            count += 1
    except WeakLossError:
        raise
    except Exception as error:  # ASE's readers fail in many ways
        raise WeakLossError(
            f"'{path}' cannot be read from structure {count} (counted from 0): {error}"
        ) from error
    if not count:
        raise WeakLossError(f"'{path}' has no structures")


def read_labelled(path: Path, keys: Keys) -> Iterator[tuple[str, Atoms, dict[str, np.ndarray]]]:
    """The structures of a file with their labels, each with its file and number for messages.

    Raises:
        WeakLossError: as ``read_structures``, or if a label is invalid.
    """
    for number, atoms in enumerate(read_structures(path)):
        place = _place(path, number)
        with naming(place):
            labels = keys.labels(atoms)
        yield place, atoms, labels


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put a structure's file and number before the message of an error."""
    try:
        yield
    except WeakLossError as error:
        raise WeakLossError(f"{place}: {error}") from error


def _place(path: Path, number: int) -> str:
    return f"'{path}', structure {number} (counted from 0)"


def bare(atoms: Atoms) -> Atoms:
    """The structure without labels; its charge and spin stay, as MACE's trainings read them."""
    from ase import Atoms

    return Atoms(
        atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=state_of(atoms)
    )


def state_of(atoms: Atoms) -> dict[str, Any]:
    """Charge, spin and the like of a structure, by the names of MACE's trainings.

    Raises:
        WeakLossError: if one has two values.
    """
    found: dict[str, Any] = {}
    for name, keys in STATE.items():
        values = [atoms.info[key] for key in keys if key in atoms.info]
        if any(not np.array_equal(value, values[0]) for value in values):
            raise WeakLossError(
                f"{' and '.join(keys)} of {atoms.get_chemical_formula()} disagree: remove one"
            )
        if values:
            found[name] = values[0]
    return found


def plain_state_of(atoms: Atoms) -> dict[str, Any]:
    """The same in numbers and lists, which can be compared and written."""
    return {name: np.asarray(value).tolist() for name, value in state_of(atoms).items()}


def is_isolated_atom(atoms: Atoms) -> bool:
    """Whether a structure is the reference for the energy of an atom.

    Its config_type says so: ``IsolatedAtom``, or another spelling such as ``isolated_atom``.
    """
    kind = str(atoms.info.get("config_type", "")).replace("_", "").lower()
    return len(atoms) == 1 and kind == ISOLATED.lower()


def require_structures(frames: Sequence[object], path: Path) -> None:
    """Check that a file has structures, where ``frames`` are those beside isolated atoms.

    Raises:
        WeakLossError: if it has none.
    """
    if not frames:
        raise WeakLossError(f"'{path}' has only isolated atoms: name a file of structures")


def is_alone(atoms: Atoms) -> bool:
    """Whether a structure is one atom, whose images are out of its reach."""
    if len(atoms) > 1 or not any(atoms.pbc):
        return len(atoms) == 1
    return not len(neighbours(atoms, REACH)[0])


def neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both atoms (n_pairs,) of all pairs within a cutoff in Å, images too, and their distances."""
    from matscipy.neighbours import neighbour_list

    whole = atoms.copy()
    whole.cell = atoms.cell.complete()  # a slab may lack the vector that it does not repeat along
    return neighbour_list("ijd", whole, cutoff)


def spelled_as_by_mace(atoms: Atoms) -> bool:
    """Whether MACE recognises the config_type of an isolated atom."""
    return atoms.info.get("config_type") == ISOLATED


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, evenly out of all."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [items[place] for place in places]


def batch_atoms(device: object) -> int:
    """How many atoms to predict at once on a device of torch."""
    return BATCH_ATOMS if str(device).startswith("cpu") else BATCH_ATOMS_GPU


def in_batches(
    items: Iterable[Item],
    *,
    most_atoms: int,
    most_items: int | None = None,
    n_atoms: Callable[[Item], int] = len,  # type: ignore[assignment]
) -> Iterator[list[Item]]:
    """Successive items with at most so many atoms together; a larger one is alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and (len(batch) == most_items or size + n_atoms(item) > most_atoms):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += n_atoms(item)
    if batch:
        yield batch
