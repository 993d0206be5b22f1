"""``mace-weak select`` with a packaged nequip model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from ase.io import read, write
from datafiles import QUICKSTART
from roads import Start
from training import train
from typer.testing import CliRunner

from mace_weak.command import select as pools
from mace_weak.command.app import select
from mace_weak.command.models import load_model
from mace_weak.structures import bare


@pytest.mark.parametrize("method", ["forces", "d-optimal"])
def test_structures_are_chosen(foundation, tmp_path, nequip_dtype, method):
    frames = read(QUICKSTART / "data" / "ethanol_pbe_test.xyz", ":30")
    copy = bare(frames[0])
    copy.rotate(70, (1, 2, 3))
    path, out = tmp_path / "pool.xyz", tmp_path / "out.xyz"
    write(path, [*frames, copy])
    app = typer.Typer()
    app.command()(select)
    arguments = [str(path), "--n=6", f"--model={foundation}", f"--out={out}", "--json"]
    done = CliRunner().invoke(app, [*arguments, f"--method={method}"])
    assert done.exit_code == 1, done.output
    result = json.loads(done.stdout)
    (finding,) = result["findings"]
    assert "frames 30" in finding["problem"]
    if method == "forces":
        (table,) = result["tables"].values()
        (own,) = (row for row in table if row["structures"] == 6)
        assert own["chosen"] < own["random, mean"] - own["random, spread"]
    else:
        own, _, spread = result["tables"]["Choice"]
        assert own["D-efficiency"] > 1 + 2 * spread["D-efficiency"]
    assert len(read(out, ":")) == 6


def test_descriptors_do_not_depend_on_the_batches(foundation, files, monkeypatch, nequip_dtype):
    model = load_model(str(foundation))
    _, together = pools.descriptors(model, files.ethanol)
    monkeypatch.setattr(pools, "BATCH_ATOMS", 20)
    _, apart = pools.descriptors(model, files.ethanol)
    np.testing.assert_allclose(apart, together, rtol=1e-4, atol=1e-6)


def test_allegro_has_descriptors_that_do_not_turn(
    tmp_path, files, foundation, foundation_checkpoint
):
    """Those of its edges: invariant under rotation and relabelling, different in other shapes."""
    pytest.importorskip("allegro", reason="nequip-allegro is not installed")
    config = Start(files, foundation, foundation_checkpoint).allegro()
    model = load_model(str(train(tmp_path, config).checkpoint))
    one, other = read(files.ethanol, ":2")
    turned = bare(one)[::-1]
    turned.rotate(70, (1, 2, 3))
    here, there, elsewhere = model.descriptors([bare(one), turned, bare(other)])
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-4 * np.abs(here).max())
    assert np.abs(elsewhere - here).max() > 1e-2 * np.abs(here).max()
