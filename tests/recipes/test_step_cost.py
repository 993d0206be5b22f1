"""The cost of a step, and of the closed form, is measured."""

from __future__ import annotations

import json

import pytest
from datafiles import HOSTS, RECIPES, run_recipe

if HOSTS["mace"] is None:
    pytest.skip("the cost is that of MACE's step", allow_module_level=True)


CUDA = pytest.param(["--device=cuda", "--size=foundation"], marks=pytest.mark.cuda)


@pytest.mark.parametrize("where", [[], CUDA])
def test_the_cost_is_printed(where):
    """Times are there, and more graphs at once take more memory."""
    output = run_recipe(
        RECIPES / "benchmark" / "step_cost.py", *where, "--rounds=1", "--structures=1",
        "--no-scaling", "--memory-structures=5",
    )  # fmt: skip
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if "| weak_" in line]
    assert len(rows) == 7
    assert all(float(row[1].split()[0]) > 0 for row in rows)
    memory = {row[0]: float(row[-1]) for row in rows}
    assert 1.2 < memory["weak_taylor"] < memory["weak_spatial"]


def test_the_cost_of_the_closed_form_is_measured():
    script = RECIPES / "benchmark" / "tangent_cost.py"
    measured = json.loads(run_recipe(script, "--case", "50 energies").splitlines()[-1])
    assert (measured["energies"], measured["atoms"]) == (50, 9)
    assert measured["parameters"] > 50_000
    assert measured["ratio"] > 0
    assert measured["memory"] > 50 * 8 * measured["parameters"] / 1e9  # the rows of the labels, GB


def test_the_cost_of_error_bars_is_measured():
    """A gradient for each component of the forces costs more than one."""
    script = RECIPES / "benchmark" / "tangent_cost.py"
    output = run_recipe(script, "--error-bars", "--sizes", "small")
    (row,) = (line.strip("| ").split(" | ") for line in output.splitlines() if "| small" in line)
    energy, forces = map(float, row[2:])
    assert 0 < energy < forces
