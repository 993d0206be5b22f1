"""Labelled structures from extended XYZ files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.stress import full_3x3_to_voigt_6_stress

from mace_weak.command.arguments import ENERGY_KEY, FORCES_KEY, STRESS_KEY
from mace_weak.errors import WeakLossError
from mace_weak.misread import ISOLATED, unplaced

Item = TypeVar("Item")
EXPECTED = {
    "energy": "a number, eV",
    "forces": "three numbers for each atom, eV/Å",
    "stress": "six or nine numbers, eV/Å³",
}


@dataclass(frozen=True)
class Keys:
    """Names under which a file has its labels."""

    energy: str = ENERGY_KEY
    forces: str = FORCES_KEY
    stress: str = STRESS_KEY

    def label(self, atoms: Atoms, name: str) -> np.ndarray | None:
        """The label called ``name`` here, wherever ASE put it, or None.

        Forces in the comment line count as none: the hosts do not look there.

        Energies () in eV, forces (n_atoms, 3) in eV/Å, stress (6,) in eV/Å³ in Voigt's order.

        Raises:
            WeakLossError: if what is there is not so many numbers.
        """
        key = getattr(self, name)
        value = None if name == "forces" and key in atoms.info else label(atoms, key)
        if value is None:
            return None
        try:
            array = np.asarray(value, dtype=float)
            if name == "stress" and array.shape != (6,):
                return full_3x3_to_voigt_6_stress(array.reshape(3, 3))
            return array.reshape({"energy": (), "forces": (len(atoms), 3), "stress": (6,)}[name])
        except (TypeError, ValueError):
            raise WeakLossError(
                f"it has under the key '{key}' what is no {name} ({EXPECTED[name]}): "
                f"'{_shortened(value)}': mend or remove it"
            ) from None

    def labels(self, atoms: Atoms) -> Mapping[str, np.ndarray]:
        """All labels that a structure has, by their names here."""
        found = {field.name: self.label(atoms, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


def finite(labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The labels without NaN and infinity."""
    return {name: value for name, value in labels.items() if np.all(np.isfinite(value))}


def label(atoms: Atoms, key: str) -> Any:
    """A label by its key, wherever ASE put it; None if it is not there."""
    results = atoms.calc.results if atoms.calc is not None else {}
    for place in (atoms.info, atoms.arrays, results):
        if key in place:
            return place[key]
    return None


def _shortened(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:40]}…"


def read_frames(path: Path) -> Iterator[Atoms]:
    """The structures of a file, one at a time.

    Raises:
        WeakLossError: if the file is missing, empty or cannot be read.
    """
    if not path.is_file():
        raise WeakLossError(f"there is no file '{path}'")
    number = -1
    try:
        for number, atoms in enumerate(iread(path, index=":")):
            if problem := unplaced(atoms.positions, atoms.cell.array):
                raise WeakLossError(f"'{path}', structure {number} (counted from 0): {problem}")
            yield atoms
    except WeakLossError:
        raise
    except Exception as error:  # ASE's readers fail in many ways
        raise WeakLossError(
            f"'{path}' cannot be read behind frame {number} (counted from 0): {error}"
        ) from error
    if number < 0:
        raise WeakLossError(f"'{path}' has no structures")


def labelled_frames(path: Path, keys: Keys) -> Iterator[tuple[str, Atoms, Mapping[str, Any]]]:
    """The structures of a file with their labels, and words that say where each stands.

    Raises:
        WeakLossError: if the file is missing, empty or cannot be read, or a label is no such.
    """
    for number, atoms in enumerate(read_frames(path)):
        place = f"'{path}', structure {number} (counted from 0)"
        try:
            labels = keys.labels(atoms)
        except WeakLossError as error:
            raise WeakLossError(f"{place}: {error}") from error
        yield place, atoms, labels


def require_named_labels(frames: Sequence[Atoms], keys: Keys, path: Path) -> None:
    """Check that some structure has each label whose name is not the default one.

    Raises:
        WeakLossError: if none has.
    """
    for field in fields(keys):
        key = getattr(keys, field.name)
        named = key != getattr(Keys(), field.name)
        if named and all(keys.label(atoms, field.name) is None for atoms in frames):
            raise WeakLossError(
                f"no structure of '{path}' has the {field.name} '{key}': name another key by "
                f"--{field.name}-key"
            )


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, evenly out of all."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [items[place] for place in places]


def bare(atoms: Atoms) -> Atoms:
    """The structure alone, without labels."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def isolated(atoms: Atoms) -> bool:
    """Whether a structure is the reference for the energy of an atom.

    MACE knows it by its config_type, ``IsolatedAtom``; ``isolated_atom`` means the same.
    """
    kind = str(atoms.info.get("config_type", "")).replace("_", "").lower()
    return len(atoms) == 1 and kind == ISOLATED.lower()
