"""``mace-weak select`` with a packaged nequip model."""

from __future__ import annotations

import json

import typer
from ase.io import read, write
from datafiles import QUICKSTART
from typer.testing import CliRunner

from mace_weak.command.app import select
from mace_weak.structures import bare


def test_structures_are_chosen(foundation, tmp_path, nequip_dtype):
    frames = read(QUICKSTART / "data" / "ethanol_pbe_test.xyz", ":30")
    copy = bare(frames[0])
    copy.rotate(70, (1, 2, 3))
    path, out = tmp_path / "pool.xyz", tmp_path / "out.xyz"
    write(path, [*frames, copy])
    app = typer.Typer()
    app.command()(select)
    arguments = [str(path), "--n=6", f"--model={foundation}", f"--out={out}", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output  # whatever it found
    result = json.loads(done.stdout)
    (finding,) = result["findings"]
    assert "frames 30" in finding["problem"]
    (table,) = result["tables"].values()
    (own,) = (row for row in table if row["structures"] == 6)
    assert own["chosen"] < own["random, mean"] - own["random, spread"]
    assert len(read(out, ":")) == 6
