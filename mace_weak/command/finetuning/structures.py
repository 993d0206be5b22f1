"""The structures and labels that a fine-tuning in closed form learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mace_weak.command.frames import Keys, bare, isolated, read_frames
from mace_weak.errors import WeakLossError


@dataclass(frozen=True)
class Structures:
    """Structures of a file with their labels.

    ``energies`` (n_structures,) in eV, NaN where there is none; ``forces`` (n_atoms, 3) in eV/Å,
    or None. ``isolated`` counts the atoms alone that were left out.
    """

    frames: list[Atoms]
    energies: np.ndarray
    forces: list[np.ndarray | None]
    isolated: int


def labelled_structures(path: Path, keys: Keys) -> Structures:
    """Read a file.

    Raises:
        WeakLossError: if a position or a label is not a finite number, or no energy is there.
    """
    frames, energies, forces, alone = [], [], [], 0
    for number, atoms in enumerate(read_frames(path)):
        place = f"'{path}', structure {number} (counted from 0)"
        if isolated(atoms):
            alone += 1
            continue
        energy = _label(keys, atoms, "energy", place)
        frames.append(bare(atoms))
        energies.append(np.nan if energy is None else float(energy))
        forces.append(_label(keys, atoms, "forces", place))
    if not np.any(np.isfinite(energies)):
        raise WeakLossError(
            f"no structure of '{path}' has an energy under the key '{keys.energy}': name the key "
            "by --energy-key"
        )
    return Structures(frames, np.array(energies), forces, alone)


def _label(keys: Keys, atoms: Atoms, name: str, place: str) -> np.ndarray | None:
    try:
        value = keys.label(atoms, name)
    except WeakLossError as error:
        raise WeakLossError(f"{place}: {error}") from error
    if value is not None and not np.all(np.isfinite(value)):
        raise WeakLossError(
            f"{place}: its {name} (key '{getattr(keys, name)}') is NaN or infinite: mend or remove "
            "it"
        )
    return value
