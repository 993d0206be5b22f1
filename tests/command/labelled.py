"""Structures labelled by ASE's effective medium theory, for the tests of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write


def labelled(atoms: Atoms) -> Atoms:
    """A copy with energy (eV) and forces (eV/Å) under MACE's keys."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.calc = EMT()
    energy, forces = copy.get_potential_energy(), copy.get_forces()
    copy.calc = None
    copy.info["REF_energy"] = float(energy)
    copy.arrays["REF_forces"] = forces
    return copy


def rattled(count: int, *, length: float = 0.05, seed: int = 0) -> list[Atoms]:
    """Ammonia with random displacements of about ``length`` (Å) for each coordinate."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = molecule("NH3")
        atoms.positions += length * generator.standard_normal(atoms.positions.shape)
        frames.append(labelled(atoms))
    return frames


def written(path: Path, frames: list[Atoms]) -> Path:
    write(path, frames, format="extxyz")
    return path
