"""Vibrations are compared with those of the reference, which are made by PySCF."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.mixing import LinearCombinationCalculator
from ase.io import read, write
from datafiles import RECIPES, run_recipe

from recipes.benchmark.frequencies import deviations
from recipes.benchmark.make_frequencies import PBE
from recipes.cbs_energy_only.vibrations import harmonic_wavenumbers

DATA = RECIPES / "benchmark" / "data"


def test_a_stiffer_potential_deviates():
    """Energies times 1.21 have frequencies times 1.1."""
    water = molecule("H2O")
    water.info["wavenumbers"] = harmonic_wavenumbers(water, EMT())
    assert deviations(water, EMT()) == {"wavenumber_mae": 0.0, "wavenumber_max": 0.0}
    found = deviations(water, LinearCombinationCalculator([EMT()], [1.21]))
    wavenumbers = water.info["wavenumbers"]
    assert found["wavenumber_mae"] == pytest.approx(0.1 * wavenumbers.mean(), rel=1e-2)
    assert found["wavenumber_max"] == pytest.approx(0.1 * wavenumbers.max(), rel=1e-2)


def test_the_reference_is_that_of_the_forces(tmp_path):
    """Analytic second derivatives at the minimum agree with differences of forces."""
    hydrogen = molecule("H2")
    hydrogen.calc = PBE()
    hydrogen.info["REF_energy"], hydrogen.arrays["REF_forces"] = -1.0, hydrogen.get_forces() + 0.01
    hydrogen.calc = None
    write(tmp_path / "hydrogen.xyz", hydrogen, format="extxyz")
    script = RECIPES / "benchmark" / "make_frequencies.py"
    output = run_recipe(script, tmp_path / "hydrogen.xyz", f"--out={tmp_path / 'minimum.xyz'}")
    assert "differ by 10.0 meV/Å" in output
    minimum = read(tmp_path / "minimum.xyz")
    expected = harmonic_wavenumbers(minimum, PBE())
    np.testing.assert_allclose(minimum.info["wavenumbers"], expected, rtol=2e-3)


@pytest.mark.parametrize("name", ["ethanol", "methanol"])
def test_a_minimum_has_real_vibrations(name):
    minimum = read(DATA / f"{name}_minimum.xyz")
    wavenumbers = minimum.info["wavenumbers"]
    assert len(wavenumbers) == 3 * len(minimum) - 6
    assert (np.diff(wavenumbers) > 0).all()
    assert wavenumbers[0] > 100
