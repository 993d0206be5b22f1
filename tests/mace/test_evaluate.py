"""``mace-weak evaluate`` with MACE's models."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from console import mace_weak, result_of, rows_of
from mace.calculators import MACECalculator
from predictions import calculated


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation") / "page"


@pytest.fixture(scope="module")
def evaluation(files, foundation, out):
    return result_of(
        "evaluate", foundation, files.ethanol_forces, f"--before={foundation}", f"--out={out}",
        "--type-key=name", "--probes=2", "--steps=40", "--dtype=float64",
    )  # fmt: skip


def test_the_errors_are_those_of_maces_calculator(evaluation, files, foundation):
    calculator = MACECalculator(foundation, device="cpu", default_dtype="float64")
    frames = read(files.ethanol_forces, ":")
    results = calculated(calculator, frames)
    energy = [
        (own - atoms.info["REF_energy"]) / len(atoms)
        for (own, _), atoms in zip(results, frames, strict=True)
    ]
    force = [
        own - atoms.arrays["REF_forces"] for (_, own), atoms in zip(results, frames, strict=True)
    ]
    rows = [row for row in evaluation["tables"]["Energies, meV/atom"] if row["model"] == "model"]
    assert rows[0]["RMSE about mean"] == pytest.approx(1e3 * np.std(energy))
    assert rows[0]["MAE"] == pytest.approx(1e3 * np.mean(np.abs(energy)))
    forces = {
        row["of"]: row for row in evaluation["tables"]["Forces, meV/Å"] if row["model"] == "model"
    }
    assert forces["all"]["RMSE"] == pytest.approx(1e3 * np.sqrt(np.mean(np.square(force))))
    oxygen = np.array(frames[0].symbols == "O")
    only = np.array(force)[:, oxygen]
    assert forces["O"]["RMSE"] == pytest.approx(1e3 * np.sqrt(np.mean(np.square(only))))


def test_a_model_compared_with_itself_has_no_difference(evaluation):
    rows = rows_of(evaluation, "Taylor residuals, meV/atom", "of")
    assert rows["model"]["0.05 Å"] == rows["before"]["0.05 Å"] > 0
    assert max(value for key, value in rows["difference of both"].items() if key != "of") < 1e-9
    problems = [finding["problem"] for finding in evaluation["findings"]]
    assert not any("grew" in problem for problem in problems)


def test_the_forces_are_conservative(evaluation):
    for row in evaluation["tables"]["Work of the forces, meV/atom"]:
        assert row["around closed paths"] < 1e-3 * row["along them"]


def test_the_page_is_whole_by_itself(evaluation, out):
    page = (out / "evaluation.html").read_text()
    assert evaluation["written"][0] == str(out / "evaluation.html")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for title in evaluation["tables"]:
        assert title in page
    for path in evaluation["written"][1:]:
        assert (out / path).stat().st_size > 10_000


def test_stress_of_crystals_is_judged(tmp_path, files, copper_foundation):
    found = result_of(
        "evaluate", copper_foundation, files.copper, f"--out={tmp_path}", "--probes=0", "--steps=0"
    )
    (row,) = found["tables"]["Stress, meV/Å³"]
    assert row["n"] == 10
    assert row["RMSE"] > 0
    assert "Dynamics" not in str(found["tables"].keys())


def test_elements_that_the_model_lacks_are_bad_use(tmp_path, files, foundation):
    done = mace_weak("evaluate", foundation, files.copper, f"--out={tmp_path}")
    assert done.returncode == 2
    assert "contains Cu, and the model knows only" in done.stderr


def evaluated(folder, foundation, frames, *flags):
    write(folder / "test.xyz", frames)
    return result_of("evaluate", foundation, folder / "test.xyz", f"--out={folder}", *flags)


def test_labels_that_are_nan_are_missing_ones(tmp_path, files, foundation):
    frames = read(files.ethanol_forces, ":")
    frames[2].arrays["REF_forces"][0, 0] = np.nan
    frames[3].info["REF_energy"] = np.nan
    found = evaluated(tmp_path, foundation, frames, "--probes=0", "--steps=0")
    assert rows_of(found, "Energies, meV/atom", "of")["all"]["n"] == len(frames) - 1
    row = rows_of(found, "Forces, meV/Å", "of")["all"]
    assert row["atoms"] == sum(map(len, frames)) - len(frames[2])
    assert row["RMSE"] > 0


def test_labels_that_are_named_and_nowhere_are_refused(tmp_path, files, foundation):
    done = mace_weak(
        "evaluate", foundation, files.ethanol_forces, "--energy-key=E", f"--out={tmp_path}"
    )
    assert done.returncode == 2
    assert "has the energy 'E': name another key by --energy-key" in " ".join(done.stderr.split())


def test_no_labels_at_all_are_a_finding(tmp_path, files, foundation):
    frames = read(files.ethanol_forces, ":")
    for atoms in frames:
        atoms.info = {}
        del atoms.arrays["REF_forces"]
    found = evaluated(tmp_path, foundation, frames, "--probes=0", "--steps=0")
    problem = "no structure has a label under the keys 'REF_energy', 'REF_forces'"
    assert problem in str(found["findings"])


def test_isolated_atoms_are_left_out(tmp_path, files, foundation):
    """Neither their energies nor the dynamics, which begins at the lowest energy."""
    alone = Atoms("O", info={"config_type": "IsolatedAtom", "REF_energy": -1e5})
    frames = read(files.ethanol_forces, ":4")
    found = evaluated(tmp_path, foundation, [alone, *frames], "--probes=0", "--steps=30")
    assert rows_of(found, "Energies, meV/atom", "of")["all"]["n"] == len(frames)
    (run,) = next(rows for name, rows in found["tables"].items() if name.startswith("Dynamics"))
    assert run["drift, meV/atom/ps"] is not None
    unmarked = [Atoms("O", info={"REF_energy": -1e5 + number}) for number in range(3)]
    found = evaluated(tmp_path, foundation, unmarked, "--probes=0", "--steps=30")
    assert not any("a bond broke" in finding["problem"] for finding in found["findings"])
    write(tmp_path / "atom.xyz", alone)
    done = mace_weak("evaluate", foundation, tmp_path / "atom.xyz", f"--out={tmp_path}")
    assert done.returncode == 2
    assert "has only isolated atoms" in done.stderr


def test_a_model_of_several_heads_is_bad_use(tmp_path, files, foundation):
    model = torch.load(foundation, weights_only=False)
    model.heads = ["dft", "cc"]
    torch.save(model, tmp_path / "heads.model")
    done = mace_weak("evaluate", tmp_path / "heads.model", files.ethanol, f"--out={tmp_path}")
    assert done.returncode == 2
    assert "has the heads dft, cc: take one out by mace_select_head" in done.stderr
