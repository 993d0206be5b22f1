"""The cost of a step is measured."""

from __future__ import annotations

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
