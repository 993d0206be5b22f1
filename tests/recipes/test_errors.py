"""The errors that the recipes tell, of predictions made up."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from recipes.quickstart.evaluate import errors_of


def frame(energy: float, force: float, stress: float | None = None) -> Atoms:
    """Zero labels, and predictions that are off by as much."""
    atoms = Atoms("H2", positions=np.eye(2, 3))
    atoms.info.update(REF_energy=0.0, predicted_energy=energy)
    atoms.arrays.update(REF_forces=np.zeros((2, 3)), predicted_forces=np.full((2, 3), force))
    if stress is not None:
        atoms.info.update(REF_stress=np.zeros(9), predicted_stress=np.full((3, 3), stress))
    return atoms


def test_the_units_and_the_mean_of_the_energies():
    errors = errors_of([frame(1.0, 0.3), frame(1.2, 0.4)])
    assert errors.energy_rmse_about_mean == pytest.approx(50.0)  # meV/atom, without the mean error
    assert errors.force_rmse == pytest.approx(1e3 * np.sqrt((0.3**2 + 0.4**2) / 2))  # meV/Å


def test_stress_counts_where_it_is_labelled():
    errors = errors_of([frame(0.0, 0.0, 0.003), frame(0.0, 0.0, 0.004), frame(0.0, 0.0)])
    assert errors.stress_rmse == pytest.approx(np.sqrt((3**2 + 4**2) / 2))  # meV/Å³
    assert errors_of([frame(0.0, 0.0)]).stress_rmse is None
