"""The comparison of the recipe for energies at the complete-basis-set limit."""

from __future__ import annotations

import re

from datafiles import RECIPES, run_recipe

CBS = RECIPES / "cbs_energy_only"


def test_models_are_compared(tmp_path, foundation):
    """Two names of one model have the same errors and the same wavenumbers."""
    output = run_recipe(
        CBS / "compare.py", f"foundation={foundation}", f"again={foundation}", f"--out={tmp_path}"
    )
    rows = dict(re.findall(r"^\| (foundation|again|reference) \| (.*) \|$", output, re.MULTILINE))
    assert rows["foundation"] == rows["again"]
    wavenumbers = [float(value) for value in rows["reference"].split("|")[:6]]
    assert wavenumbers == sorted(wavenumbers)
    found = [float(value) for value in rows["foundation"].split("|")]
    assert len(found) == 7
    mean = sum(abs(one - other) for one, other in zip(found, wavenumbers, strict=False)) / 6
    assert abs(found[6] - mean) <= 1
    assert (tmp_path / "forces.png").stat().st_size > 10_000
