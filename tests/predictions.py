"""What a model says of structures, to hold against what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import write

from mace_weak.command.models import Model, load_model, predict


def calculated(calculator: Calculator, frames: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
    """Energy in eV and forces (n_atoms, 3) in eV/Å of each structure."""
    results = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = calculator
        results.append((copy.get_potential_energy(), copy.get_forces()))
    return results


def require_same_as_calculator(model: Model, frames: Sequence[Atoms], *, tolerance: float) -> None:
    """Check energies, forces and stresses of periodic structures against the host's calculator."""
    expected = calculated(model.calculator, frames)
    found = list(predict(model, frames))
    assert len(found) == len(frames)
    for atoms, prediction, (energy, forces) in zip(frames, found, expected, strict=True):
        assert abs(prediction.energy - energy) < tolerance
        np.testing.assert_allclose(prediction.forces, forces, atol=tolerance)
        assert (prediction.stress is not None) == all(atoms.pbc)
        if prediction.stress is not None:
            stress = model.calculator.get_stress(atoms)
            np.testing.assert_allclose(prediction.stress, stress, atol=tolerance)


def softened(calculator: Calculator, frames: Sequence[Atoms], slope: float) -> list[Atoms]:
    """The structures with labels for which the calculator has that slope, 1000 eV lower."""
    for atoms, (energy, forces) in zip(frames, calculated(calculator, frames), strict=True):
        atoms.info["REF_energy"] = energy / slope - 1000.0
        atoms.arrays["REF_forces"] = forces / slope
    return list(frames)


def relabelled(
    path: Path,
    frames: Sequence[Atoms],
    model: Path,
    *,
    energy_key: str = "REF_energy",
    factor: float = 1.0,
) -> Path:
    """The structures with that times a model's own energies, and no forces."""
    calculator = load_model(str(model)).calculator
    for atoms, (energy, _) in zip(frames, calculated(calculator, frames), strict=True):
        atoms.info = {energy_key: factor * energy}
        atoms.arrays.pop("REF_forces", None)
    write(path, frames)
    return path
