"""What the recipes let MACE predict is what its calculator says."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress
from mace.calculators import MACECalculator
from mace_host import dtype_of, predict
from predictions import calculated


@pytest.mark.parametrize("name", ["copper", "ethanol_forces"])
def test_stress_is_predicted_where_it_is_labelled(files, foundation, copper_foundation, name):
    structures = getattr(files, name)
    model = str(copper_foundation if name == "copper" else foundation)
    calculator = MACECalculator(model, device="cpu", default_dtype=dtype_of(model))
    predicted = predict(model, structures, "cpu")
    assert len(predicted) == len(read(structures, ":"))
    some = predicted[:3]
    for atoms, (energy, forces) in zip(some, calculated(calculator, some), strict=True):
        assert atoms.info["predicted_energy"] == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(atoms.arrays["predicted_forces"], forces, atol=1e-4)
        assert ("predicted_stress" in atoms.info) == (name == "copper")
        if name == "copper":
            stress = full_3x3_to_voigt_6_stress(atoms.info["predicted_stress"])
            expected = calculator.get_stress(atoms)
            np.testing.assert_allclose(stress, expected, atol=1e-5)
            assert np.abs(expected).max() > 1e-4
