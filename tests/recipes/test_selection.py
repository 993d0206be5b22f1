"""The demonstration of ``mace-weak select``: it chooses by the command, trains and compares."""

from __future__ import annotations

import csv

import pytest
from ase.io import read
from datafiles import HOSTS, RECIPES, run_recipe, small_plan

SELECTION = RECIPES / "selection"
METHODS = ["random", "forces"]

pytestmark = pytest.mark.skipif(HOSTS["mace"] is None, reason="the demonstration is with MACE")


def demonstrate(*arguments: str) -> str:
    return run_recipe(SELECTION / "run.py", *arguments)


@pytest.mark.slow
def test_the_methods_are_compared(tmp_path):
    """Shrunk to twelve structures to choose from."""
    cases = small_plan(tmp_path)
    out = tmp_path / "out"
    arguments = (
        f"--cases={cases}", "--data", "small", "absent", "--n", "4",
        "--seeds", "1", f"--out={out}", f"--foundations={tmp_path}",
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
