"""The structures and labels that a fine-tuning in closed form learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mace_weak.command.frames import Keys, bare, isolated, labelled_frames
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
    for place, atoms, labels in labelled_frames(path, keys):
        if isolated(atoms):
            alone += 1
            continue
        for name in ("energy", "forces"):
            _require_finite(labels.get(name), place, name, keys)
        frames.append(bare(atoms))
        energies.append(float(labels.get("energy", np.nan)))
        forces.append(labels.get("forces"))
    if not np.any(np.isfinite(energies)):
        raise WeakLossError(
            f"no structure of '{path}' has an energy under the key '{keys.energy}': name the key "
            "by --energy-key"
        )
    return Structures(frames, np.array(energies), forces, alone)


def _require_finite(value: np.ndarray | None, place: str, name: str, keys: Keys) -> None:
    if value is not None and not np.all(np.isfinite(value)):
        raise WeakLossError(
            f"{place}: its {name} (key '{getattr(keys, name)}') is NaN or infinite: mend or remove "
            "it"
        )
