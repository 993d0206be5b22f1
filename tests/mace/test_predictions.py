"""What the recipes let MACE predict is what its calculator says."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io import read
from mace.calculators import MACECalculator
from mace_host import dtype_of, predict


@pytest.mark.parametrize("name", ["copper", "ethanol_forces"])
def test_stress_is_predicted_where_it_is_labelled(files, foundation, copper_foundation, name):
    structures = getattr(files, name)
    model = str(copper_foundation if name == "copper" else foundation)
    calculator = MACECalculator(model, device="cpu", default_dtype=dtype_of(model))
    predicted = predict(model, structures, "cpu")
    assert len(predicted) == len(read(structures, ":"))
    for atoms in predicted[:3]:
        atoms.calc = calculator
        assert atoms.info["predicted_energy"] == pytest.approx(
            atoms.get_potential_energy(), abs=1e-4
        )
        np.testing.assert_allclose(atoms.arrays["predicted_forces"], atoms.get_forces(), atol=1e-4)
        assert ("predicted_stress" in atoms.info) == (name == "copper")
        if name == "copper":
            stress = atoms.get_stress(voigt=False)
            np.testing.assert_allclose(atoms.info["predicted_stress"], stress, atol=1e-5)
            assert np.abs(stress).max() > 1e-4
