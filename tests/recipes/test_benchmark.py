"""The benchmark runs, on its own list of cases and on files of the user's."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read, write
from datafiles import HOSTS, QUICKSTART, RECIPES, write_files

if HOSTS["mace"] is None:
    pytest.skip("the benchmark trains by MACE", allow_module_level=True)

from benchmark_cases import Case, Plan, frames_of

BENCHMARK = RECIPES / "benchmark"
PLAN = Plan.read(BENCHMARK / "cases.yaml")


def call(script: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARK / script, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(QUICKSTART)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_set_is_all_combinations():
    cases = list(PLAN.cases("learning_rates"))
    lists = PLAN.sets["learning_rates"]
    assert len(cases) == len(set(cases)) == 3 * 4 * 3 * 3
    assert {case.loss for case in cases} == set(lists["loss"])
    assert cases[0] == Case("ethanol", "plain", 50, 0.01, 800, 1)


def test_every_case_has_its_loss_and_data():
    for name in PLAN.sets:
        for case in PLAN.cases(name):
            assert case.loss in PLAN.losses
            assert case.data in PLAN.data


def test_training_data_is_energies_alone(tmp_path):
    source = {"file": str(QUICKSTART / "data" / "ethanol_pbe_test.xyz"), "index": ":3"}
    assert all("REF_forces" not in a.arrays for a in frames_of(source, tmp_path, forces=False))
    assert all("REF_forces" in a.arrays for a in frames_of(source, tmp_path, forces=True))


def test_files_of_the_users_are_compared(tmp_path):
    """With keys of their own; a second call trains nothing again."""
    files = write_files(tmp_path)
    frames = read(files.ethanol_forces, ":")
    for atoms in frames:
        atoms.info["my_energy"] = atoms.info.pop("REF_energy")
        atoms.arrays["my_forces"] = atoms.arrays.pop("REF_forces")
    write(tmp_path / "own.xyz", frames)
    (tmp_path / "cases.yaml").write_text(
        "data: {}\n"
        "losses: {plain: {loss: weighted}, weak: {loss: weak_taylor, weak_taylor_weight: 1000}}\n"
        "sets: {tiny: {data: [], loss: [plain, weak], structures: [10], lr: [0.01], steps: [8], "
        "seed: [1]}}\n"
    )
    arguments = (
        "tiny", f"--cases={tmp_path / 'cases.yaml'}", f"--out={tmp_path / 'out'}",
        f"--train={tmp_path / 'own.xyz'}", f"--test={tmp_path / 'own.xyz'}",
        "--energy-key=my_energy", "--forces-key=my_forces",
        f"--foundation-data={files.molecules}", "--foundation-epochs=1",
    )  # fmt: skip
    call("run.py", *arguments)
    table = tmp_path / "out" / "tiny.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["loss"] for row in rows] == ["plain", "weak"]
    assert all(float(row["force_rmse"]) > 0 and float(row["seconds"]) > 0 for row in rows)
    assert rows[0]["force_rmse"] != rows[1]["force_rmse"]
    assert all("mace_run_train" in row["command"] for row in rows)
    before = {path: path.stat().st_mtime for path in (tmp_path / "out").rglob("model.model")}
    call("run.py", *arguments)
    assert {path: path.stat().st_mtime for path in before} == before
    assert list(csv.DictReader(table.read_text().splitlines())) == rows
    for atoms in frames:  # other labels in the same file
        atoms.arrays["my_forces"] *= 1.1
    write(tmp_path / "own.xyz", frames)
    call("run.py", *arguments)
    others = list(csv.DictReader(table.read_text().splitlines()))
    assert all(
        row["force_rmse"] != old["force_rmse"] for row, old in zip(others, rows, strict=True)
    )


def test_the_cost_is_printed():
    """Times are there, and more graphs at once take more memory."""
    output = call(
        "step_cost.py", "--rounds=1", "--structures=1", "--no-scaling", "--memory-structures=5"
    )
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if "| weak_" in line]
    assert len(rows) == 7
    assert all(float(row[1].split()[0]) > 0 for row in rows)
    memory = {row[0]: float(row[-1]) for row in rows}
    assert 1.2 < memory["weak_taylor"] < memory["weak_spatial"]
