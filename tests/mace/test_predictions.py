"""Predictions of the recipes, and in batches, are those of MACE's calculator."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress
from conftest import scratch_model
from mace.calculators import MACECalculator
from predictions import calculated, require_same_as_calculator

from mace_weak import structures
from mace_weak.command.models import load_model, predict
from recipes.quickstart.evaluate import predicted


@pytest.mark.parametrize("name", ["copper", "ethanol_forces"])
def test_the_recipes_predict_stress_of_crystals(files, foundation, copper_foundation, name):
    path = getattr(files, name)
    model = str(copper_foundation if name == "copper" else foundation)
    calculator = MACECalculator(model, device="cpu")
    found = predicted(model, path, device="cpu")
    assert len(found) == len(read(path, ":"))
    some = found[:3]
    for atoms, (energy, forces) in zip(some, calculated(calculator, some), strict=True):
        assert atoms.info["predicted_energy"] == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(atoms.arrays["predicted_forces"], forces, atol=1e-4)
        assert ("predicted_stress" in atoms.info) == (name == "copper")
        if name == "copper":
            stress = full_3x3_to_voigt_6_stress(atoms.info["predicted_stress"])
            expected = calculator.get_stress(atoms)
            np.testing.assert_allclose(stress, expected, atol=1e-5)
            assert np.abs(expected).max() > 1e-4


def test_the_recipes_predict_by_the_head_of_the_labels(files, two_heads):
    """Not by that of the replay, which is at another level."""
    found = predicted(str(two_heads), files.ethanol, device="cpu")[:2]
    by_head = {
        head: calculated(MACECalculator(str(two_heads), device="cpu", head=head), found)
        for head in ("Default", "pt_head")
    }
    for atoms, (own, _), (other, _) in zip(found, *by_head.values(), strict=True):
        assert atoms.info["predicted_energy"] == pytest.approx(own, abs=1e-4)
        assert abs(own - other) > 100  # eV


def test_batches_predict_the_same_as_the_calculator(files, copper_foundation, monkeypatch):
    """Of crystals and molecules together, whatever the sizes of the batches."""
    crystals = read(files.copper, ":5")
    frames = [*crystals, Atoms("Cu3", [[0, 0, 0], [0, 0, 2.4], [0, 2.2, 1]]), *crystals[:2]]
    model = load_model(str(copper_foundation), dtype="float64")
    require_same_as_calculator(model, frames, tolerance=1e-6)
    for most_atoms in (1, 10**6):
        monkeypatch.setattr(structures, "BATCH_ATOMS", most_atoms)
        require_same_as_calculator(model, frames, tolerance=1e-6)


def test_a_model_that_reads_the_charge_is_given_it(files, tmp_path):
    """As of a foundation model with embeddings of charge and spin, such as MACE-OMOL."""
    kind = {"type": "categorical", "per": "graph", "num_classes": 5, "offset": 2, "emb_dim": 4}
    path = scratch_model(
        tmp_path, files.molecules, f"--embedding_specs={{'total_charge': {kind}}}", epochs=1
    )
    ions = read(files.molecules, ":3")
    for charge, atoms in enumerate(ions, start=-1):
        atoms.info["charge"] = charge  # as MACE's calculator has it
    expected = calculated(MACECalculator(str(path), device="cpu"), ions)
    for charge, atoms in enumerate(ions, start=-1):
        del atoms.info["charge"]
        atoms.info["total_charge"] = charge  # as MACE's trainings read it
    model = load_model(str(path))
    found = [prediction.energy for prediction in predict(model, ions)]
    assert found == pytest.approx([energy for energy, _ in expected], abs=1e-6)
    neutral = [structures.bare(atoms) for atoms in ions]
    for atoms in neutral:
        atoms.info.clear()
    others = [prediction.energy for prediction in predict(model, neutral)]
    assert abs(others[0] - found[0]) > 1e-5
