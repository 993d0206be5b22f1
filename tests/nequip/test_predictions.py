"""Predictions in batches are those of nequip's calculator."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.io import read
from predictions import require_same_as_calculator

from mace_weak import structures
from mace_weak.command.models import load_model


@pytest.mark.parametrize("most_atoms", [1, 100, 10**6])
def test_batches_predict_the_same_as_the_calculator(files, foundation, monkeypatch, most_atoms):
    """Of crystals and molecules together, whatever the sizes of the batches."""
    monkeypatch.setattr(structures, "BATCH_ATOMS", most_atoms)
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.05, seed=0)
    frames = [
        *read(files.molecules, ":12"),
        crystal,
        *read(files.ethanol, ":3"),
        crystal * (2, 1, 1),
    ]
    model = load_model(str(foundation))
    tolerance = 1e-6 if model.dtype == "float64" else 1e-4
    require_same_as_calculator(model, frames, tolerance=tolerance)
