"""Δ-learning on descriptors: a correction of energies, and forces that belong to them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase.io import read
from datafiles import HOSTS, QUICKSTART, RECIPES, run_recipe, small_plan

if HOSTS["mace"] is None:
    pytest.skip("the descriptors are those of MACE", allow_module_level=True)

from recipes.benchmark.descriptor_learning import METHOD, DeltaModel


def test_energies_are_learned_and_forces_are_their_derivatives(tmp_path):
    table = tmp_path / "rows.csv"
    run_recipe(
        RECIPES / "benchmark" / "descriptor_learning.py", f"--cases={small_plan(tmp_path)}",
        "--data", "small", "--structures=12", "--seeds", "1", f"--out={tmp_path}", f"--csv={table}",
    )  # fmt: skip
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["method"], row["structures"]) == (METHOD, "12")
    assert float(row["force_rmse"]) > 0

    (foundation,) = tmp_path.glob("foundation-*/model.model")
    frames = read(QUICKSTART / "data" / "ethanol_pbe_train.xyz", ":12")
    model = DeltaModel(str(foundation))
    model.fit(frames)
    labels = np.array([atoms.info["REF_energy"] for atoms in frames])
    before = np.array([each.energy for each in model.saved.predictions(frames)]) - labels
    after = np.array([each.energy for each in model.predictions(frames)]) - labels
    assert np.std(after) < 0.5 * np.std(before)

    moved = [frames[0].copy(), frames[0].copy()]
    for atoms, step in zip(moved, (5e-4, -5e-4), strict=True):
        atoms.positions[1, 2] += step
    forward, backward = (each.energy for each in model.predictions(moved))
    (at_rest,) = model.predictions(frames[:1])
    assert at_rest.forces[1, 2] == pytest.approx((backward - forward) / 1e-3, abs=2e-3)
