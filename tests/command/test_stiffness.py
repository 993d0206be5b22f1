"""The weight that ``mace-weak check`` proposes where the default would do nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from labelled import rattled, written

from mace_weak.command.checking.foundation_checks import Comparison, compare
from mace_weak.command.checking.stiffness import heavier_weight, own_residual
from mace_weak.command.checking.survey import survey
from mace_weak.command.frames import Keys

LENGTH = 0.05  # Å


class Springs(Calculator):
    """Each atom on a spring to the origin, in eV/Å²."""

    implemented_properties = ("energy", "forces")

    def __init__(self, stiffness: float) -> None:
        super().__init__()
        self.stiffness = stiffness

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        positions = self.atoms.positions
        self.results = {
            "energy": 0.5 * self.stiffness * float(np.sum(positions**2)),
            "forces": -self.stiffness * positions,
        }


@dataclass(frozen=True)
class SpringModel:
    calculator: Springs
    elements: tuple[str, ...]


def residual(folder, *, stiffness: float, repeat: int = 1) -> tuple[Comparison, float]:
    frames = rattled(40)
    for atoms in frames:
        atoms.center(vacuum=5.0)
        atoms *= (repeat, 1, 1)
    found = survey(written(folder / "train.xyz", frames), Keys())
    model = SpringModel(Springs(stiffness), tuple(found.elements))
    comparison = compare(model, found)
    return comparison, own_residual(model, comparison, length=LENGTH)


def test_of_springs_the_residual_is_their_energy(tmp_path):
    """½ k |d|², whatever the place, so that the mean over atoms is ½ k L²."""
    _, found = residual(tmp_path, stiffness=12.0)
    assert found == pytest.approx(1e3 * 0.5 * 12.0 * LENGTH**2, rel=0.15)


def test_stiff_molecules_keep_the_default_weight(tmp_path):
    assert heavier_weight(*residual(tmp_path, stiffness=26.0)) is None


def test_soft_and_large_structures_take_a_heavier_weight(tmp_path):
    comparison, soft = residual(tmp_path, stiffness=4.0)
    weight = heavier_weight(comparison, soft)
    assert weight > 100
    assert heavier_weight(comparison, soft / 10) == pytest.approx(100 * weight, rel=0.5)
    larger, _ = residual(tmp_path, stiffness=4.0, repeat=4)
    assert heavier_weight(larger, soft) == pytest.approx(4 * weight, rel=0.5)
