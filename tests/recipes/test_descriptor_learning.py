"""Δ-learning on descriptors: a correction of energies, and forces that belong to them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from datafiles import HOSTS, QUICKSTART, RECIPES, run_recipe, small_plan

if HOSTS["mace"] is None:
    pytest.skip("the descriptors are those of MACE", allow_module_level=True)

from recipes.benchmark.descriptor_learning import METHOD, DeltaModel, SumOverAtoms


def test_energies_are_learned_and_forces_are_their_derivatives(tmp_path):
    table = tmp_path / "rows.csv"
    run_recipe(
        RECIPES / "benchmark" / "descriptor_learning.py", f"--cases={small_plan(tmp_path)}",
        "--data", "small", "--structures=12", "--seeds", "1", f"--out={tmp_path}", f"--csv={table}",
    )  # fmt: skip
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["method"], row["structures"]) == (METHOD, "12")
    assert (tmp_path / "data" / row["test"]).exists()
    assert float(row["force_rmse"]) > 0

    (foundation,) = tmp_path.glob("foundation-*/model.model")
    frames, unseen = linear_in_descriptors(foundation)
    model = DeltaModel(str(foundation), frames)
    labels = np.array([atoms.info["REF_energy"] for atoms in unseen])
    before = np.array([each.energy for each in model.saved.predictions(unseen)]) - labels
    predicted = list(model.predicted(unseen))
    after = np.array([atoms.info["predicted_energy"] for atoms in predicted]) - labels
    assert np.std(after) < 0.2 * np.std(before)

    moved = [unseen[0].copy(), unseen[0].copy()]
    for atoms, step in zip(moved, (5e-4, -5e-4), strict=True):
        atoms.positions[1, 2] += step
    forward, backward = (atoms.info["predicted_energy"] for atoms in model.predicted(moved))
    force = predicted[0].arrays["predicted_forces"][1, 2]
    assert force == pytest.approx((backward - forward) / 1e-3, abs=1e-4)
    with pytest.raises(SystemExit, match="the same atoms"):
        model.correction([Atoms("HOH", np.eye(3))])


def linear_in_descriptors(foundation: Path) -> tuple[list[Atoms], list[Atoms]]:
    """Structures whose labels differ from the foundation model by a sum of the descriptors."""
    files = [QUICKSTART / "data" / f"ethanol_pbe_{part}.xyz" for part in ("train", "test")]
    frames, unseen = read(files[0], ":45"), read(files[1], ":8")
    saved = DeltaModel(str(foundation), frames[:2]).saved
    for atoms in (*frames, *unseen):
        (start,) = saved.predictions([atoms])
        atoms.info["REF_energy"] = start.energy + 10 * saved.atom_descriptors([atoms])[:, :4].sum()
    return frames, unseen


def test_the_kernel_is_a_sum_over_atoms_of_the_same_element():
    generator = np.random.default_rng(1)
    atoms, others = generator.normal(size=(2, 3, 4, 2))  # 3 structures of 4 atoms
    kernel = SumOverAtoms((1, 8, 1, 1), length_scale=1.5)
    likeness = kernel(atoms.reshape(3, -1), others.reshape(3, -1))
    by_hand = sum(
        np.exp(-np.sum((atoms[0, i] - others[2, j]) ** 2) / (2 * 1.5**2))
        for i in range(4)
        for j in range(4)
        if (i == 1) == (j == 1)
    )
    assert likeness[0, 2] == pytest.approx(by_hand)
    exchanged = atoms[:, [3, 1, 0, 2]].reshape(3, -1)
    np.testing.assert_allclose(kernel(exchanged, others.reshape(3, -1)), likeness)
    rows = atoms.reshape(3, -1)
    square, gradient = kernel(rows, eval_gradient=True)
    np.testing.assert_allclose(kernel.diag(rows), np.diag(square))
    theta, step = kernel.theta, 1e-5
    up, down = (kernel.clone_with_theta(theta + sign * step)(rows) for sign in (1, -1))
    np.testing.assert_allclose(gradient[..., 0], (up - down) / (2 * step), rtol=1e-6)
