"""The demonstration of ``mace-weak select``: it chooses by the command, trains and compares."""

from __future__ import annotations

import csv

import pytest
from ase.io import read
from datafiles import HOSTS, RECIPES, run_recipe, small_plan

if HOSTS["mace"] is None:
    pytest.skip("the demonstration is with MACE", allow_module_level=True)

from recipes.benchmark.benchmark_runner import write_csv
from recipes.selection.run import summary, with_earlier

SELECTION = RECIPES / "selection"
METHODS = ["random", "forces"]


def demonstrate(*arguments: str) -> str:
    return run_recipe(SELECTION / "run.py", *arguments)


def test_rows_of_earlier_calls_are_kept_if_versions_and_defaults_are_the_same(tmp_path):
    file = tmp_path / "selection.csv"
    versions = {"mace-torch": "0.3.16", "torch": "2.10", "defaults": "{'forces': 0.5}"}
    setting = {"data": "small", "structures": 4, "method": "random", "seed": 1}
    write_csv(file, with_earlier(file, [{**setting, "force_rmse": 3.0}], versions))
    other = {**setting, "structures": 10}
    found = with_earlier(file, [{**other, "force_rmse": 2.0}], versions)
    assert [(row["structures"], row["force_rmse"]) for row in found] == [(4, 3.0), (10, 2.0)]
    (again,) = with_earlier(file, [{**setting, "force_rmse": 1.0}], versions)
    assert again["force_rmse"] == 1.0
    (new,) = with_earlier(file, [{**other, "force_rmse": 2.0}], {**versions, "torch": "2.11"})
    assert new["structures"] == 10


def test_ratios_are_taken_within_seeds_and_averaged_over_the_data():
    errors = {("a", 1): (2.0, 1.0), ("a", 2): (1.0, 0.7), ("b", 1): (1.0, 2.4)}
    rows = [
        {"data": data, "structures": 5, "seed": seed, "method": method, "force_rmse": error}
        for (data, seed), both in errors.items()
        for method, error in zip(METHODS, both, strict=True)
    ]
    assert "1.20 with 5 energies" in summary(rows)  # the root of 0.6 times 2.4


@pytest.mark.slow
def test_the_methods_are_compared(tmp_path):
    """Shrunk to twelve structures to choose from."""
    cases = small_plan(tmp_path)
    out = tmp_path / "out"
    arguments = (
        f"--cases={cases}", "--data", "small", "absent", "--n", "4",
        "--seeds", "1", "--finetune-steps=50", f"--out={out}", f"--foundations={tmp_path}",
    )  # fmt: skip
    output = demonstrate(*arguments)
    assert "Left out: absent" in output
    lines = [line.split(" | ") for line in output.splitlines() if line.startswith("| small")]
    assert [line[2] for line in lines] == METHODS
    rows = list(csv.DictReader((out / "selection.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == METHODS
    assert 0 < float(rows[1]["left"]) < 1
    assert all(float(row["force_rmse"]) > 0 for row in rows)
    for method in METHODS:
        (selected,) = (out / "data").glob(f"*pool*-{method}-4.xyz")
        (train,) = (out / "data").glob(f"small-1-{method}-4-*.xyz")
        energies = {round(a.info["REF_energy"], 6) for a in read(train, ":")}
        assert len(energies) == len(read(selected, ":")) == 4
        assert "REF_energy" not in read(selected).info  # the command saw no labels
