"""Structures with the labels of a nequip model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from ase.io import write
from nequip.integrations.ase import NequIPCalculator
from predictions import calculated


def relabelled(
    path: Path, frames: Sequence[Atoms], model: Path, *, energy_key: str = "REF_energy"
) -> Path:
    """The structures with a model's own energies, and no forces."""
    calculator = NequIPCalculator._from_saved_model(model, chemical_species_to_atom_type_map=True)
    for atoms, (energy, _) in zip(frames, calculated(calculator, frames), strict=True):
        atoms.info = {energy_key: energy}
        atoms.arrays.pop("REF_forces")
    write(path, frames)
    return path
