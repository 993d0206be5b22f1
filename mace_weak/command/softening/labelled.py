"""Structures with energies and forces, and which of them is to mend a soft potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from mace_weak.command.atomic_energies import elements_of, fit_composition, over_composition
from mace_weak.command.frames import Keys, bare, isolated, labelled_frames
from mace_weak.command.models import Prediction
from mace_weak.errors import WeakLossError


@dataclass(frozen=True)
class Labelled:
    """A structure, its number in the file, its energy in eV and forces (n_atoms, 3) in eV/Å."""

    number: int
    atoms: Atoms
    energy: float
    forces: np.ndarray


def labelled_structures(path: Path, keys: Keys) -> list[Labelled]:
    """The structures of a file that have an energy and forces, all of them finite.

    Raises:
        WeakLossError: if there are fewer than two.
    """
    found = []
    for number, (_, atoms, labels) in enumerate(labelled_frames(path, keys)):
        energy, forces = labels.get("energy"), labels.get("forces")
        if energy is None or forces is None or isolated(atoms):
            continue
        if np.isfinite(energy) and np.isfinite(forces).all():
            found.append(Labelled(number, bare(atoms), float(energy), forces))
    if len(found) < 2:
        raise WeakLossError(
            f"'{path}' has {len(found)} structures with '{keys.energy}' and '{keys.forces}', and "
            "one to train on and others to compare are needed: check --energy-key and --forces-key"
        )
    return found


def chosen(labelled: Sequence[Labelled], index: int | None, path: Path) -> int:
    """Place of the structure numbered ``index``, or of that with the highest energy.

    The energy is that per atom, over what the composition explains.

    Raises:
        WeakLossError: if the structure numbered ``index`` has no labels.
    """
    if index is None:
        energies = [one.energy for one in labelled]
        return int(np.argmax(over_composition(structures_of(labelled), energies)))
    for place, one in enumerate(labelled):
        if one.number == index:
            return place
    raise WeakLossError(
        f"'{path}' has no structure {index} with energy and forces: count from 0, or leave --index "
        "away"
    )


def structures_of(labelled: Sequence[Labelled]) -> list[Atoms]:
    """The structures alone."""
    return [one.atoms for one in labelled]


def on_level_of_model(
    labelled: Sequence[Labelled], predicted: Sequence[Prediction]
) -> tuple[list[Labelled], dict[str, float]]:
    """The same on the model's level of theory, and what each atom's energy was above it, eV.

    A model that had to learn the difference between two levels from one structure would spoil its
    forces.
    """
    frames = structures_of(labelled)
    gaps = [one.energy - own.energy for one, own in zip(labelled, predicted, strict=True)]
    level = fit_composition(frames, np.array(gaps), elements_of(frames)).energies
    moved = [
        replace(one, energy=one.energy - sum(level[symbol] for symbol in one.atoms.symbols))
        for one in labelled
    ]
    return moved, level


def write_structure(path: Path, one: Labelled) -> None:
    """Write a structure as both hosts read it by default."""
    atoms = bare(one.atoms)
    atoms.info["REF_energy"] = one.energy
    atoms.arrays["REF_forces"] = one.forces
    write(path, atoms, format="extxyz")
