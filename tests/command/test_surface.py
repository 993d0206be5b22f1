"""Taylor residuals, closed paths and dynamics of potentials that are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from labelled import rattled

from mace_weak.command.surface import (
    LENGTHS,
    Predict,
    by_length,
    constant_energy,
    loop_work,
    taylor_residuals,
)
from mace_weak.structures import Prediction
from recipes.benchmark.make_silicon import silicon_calculator

STIFFNESS = 10.0  # eV/Å²


class Springs(Calculator):
    """Each atom on a spring to its place; ``swirl`` adds a force that is no gradient."""

    implemented_properties = ("energy", "forces")

    def __init__(self, places: np.ndarray, *, swirl: float = 0.0) -> None:
        super().__init__()
        self.places, self.swirl = places, swirl

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - self.places
        forces = -STIFFNESS * away
        forces[:, :2] += self.swirl * np.stack([-away[:, 1], away[:, 0]], axis=1)
        self.results = {"energy": 0.5 * STIFFNESS * float(np.sum(away**2)), "forces": forces}


def predict_by(calculator: Calculator) -> Predict:
    """Energies and forces by a calculator of ASE."""

    def predict(frames: Iterable[Atoms]) -> Iterator[Prediction]:
        for atoms in frames:
            atoms.calc = calculator
            yield Prediction(atoms.get_potential_energy(), atoms.get_forces())

    return predict


@pytest.fixture
def ammonia() -> Atoms:
    return molecule("NH3")


def test_the_residual_of_springs_is_half_of_their_stiffness(ammonia):
    """r = ½ k |d|², and with itself as the anchor nothing."""
    springs = predict_by(Springs(ammonia.positions))
    copies = [ammonia] * 400
    residuals = taylor_residuals(copies, springs, seed=1)
    found = by_length(residuals)
    # |d|² of an atom has the mean δ² and the variance ⅔δ⁴; r/N averages N of them
    expected = {
        length: 1e3 * 0.5 * STIFFNESS * length**2 * np.sqrt(1 + 2 / 3 / len(ammonia))
        for length in LENGTHS
    }
    assert found == pytest.approx(expected, rel=0.05)
    again = taylor_residuals(copies[:3], springs, seed=1)
    assert max(by_length(again - residuals[:3]).values()) < 1e-9


def test_the_residual_of_a_smooth_potential_is_quadratic():
    found = by_length(taylor_residuals(rattled(5), predict_by(EMT()), seed=1))
    assert found[0.02] / found[0.01] == pytest.approx(4, rel=0.15)


def test_a_gradient_does_no_work_around_closed_paths(ammonia):
    work, scale = loop_work(rattled(3), predict_by(EMT()), seed=1)
    assert work < 1e-3 * scale


def test_forces_that_are_no_gradient_do_work_around_closed_paths(ammonia):
    swirl = predict_by(Springs(ammonia.positions, swirl=3.0))
    work, scale = loop_work([ammonia] * 5, swirl, seed=1)
    assert work > 0.05 * scale


def test_dynamics_conserve_the_energy_and_notice_broken_bonds():
    """Silicon of Stillinger and Weber: cold it holds, at 20000 K bonds break."""
    atoms = bulk("Si", cubic=True)
    calculator = silicon_calculator()
    cold = constant_energy(atoms, calculator, temperature=300, steps=200, seed=0)
    assert (cold.failed, cold.time) == (False, pytest.approx(0.1))
    assert abs(cold.drift) < 5.0
    hot = constant_energy(atoms, calculator, temperature=20000, steps=200, seed=0)
    assert hot.failed
    assert hot.time < 0.1
