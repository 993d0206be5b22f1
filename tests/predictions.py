"""What a calculator says of structures, to hold against what the command says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator


def calculated(calculator: Calculator, frames: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
    """Energy in eV and forces (n_atoms, 3) in eV/Å of each structure."""
    results = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = calculator
        results.append((copy.get_potential_energy(), copy.get_forces()))
    return results


def softened(calculator: Calculator, frames: Sequence[Atoms], slope: float) -> list[Atoms]:
    """The structures with labels for which the calculator has that slope, 1000 eV lower."""
    for atoms, (energy, forces) in zip(frames, calculated(calculator, frames), strict=True):
        atoms.info["REF_energy"] = energy / slope - 1000.0
        atoms.arrays["REF_forces"] = forces / slope
    return list(frames)
