"""A restart continues the weak term as an uninterrupted run would.

MACE itself repeats the epoch of the checkpoint it restarts from, and starts its shuffling anew,
with any loss. Renaming the checkpoint to the next epoch and training on one batch an epoch take
both out of the comparison.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from training import train


@pytest.mark.parametrize("batch", ["one_batch_flags", "settled_batch_flags"])
def test_a_restart_equals_an_uninterrupted_run(tmp_path, request, batch):
    """The second is anchored on the tangent model, which is kept beside the checkpoints."""
    flags = (
        *request.getfixturevalue(batch),
        "--loss=weak_piwsl",
        "--weak_every=2",
        "--max_num_epochs=6",
        "--lr=0.001",
        "--save_all_checkpoints",
    )
    whole = train(tmp_path / "whole", *flags)
    checkpoints = tmp_path / "again" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (source,) = (tmp_path / "whole" / "checkpoints").glob("*epoch-2.pt")
    shutil.copy(source, checkpoints / source.name.replace("epoch-2", "epoch-3"))
    for solution in (tmp_path / "whole" / "checkpoints").glob("*_tangent.npz"):
        shutil.copy(solution, checkpoints)
    again = train(tmp_path / "again", *flags, "--restart_latest")
    tangent = batch == "settled_batch_flags"
    assert ("the tangent model is that of" in again.log) == tangent
    later = [step for step in whole.steps if step["epoch"] >= 3]
    assert [step["epoch"] for step in again.steps] == [step["epoch"] for step in later]
    assert any("loss_taylor" in step for step in later)
    for resumed, step in zip(again.steps, later, strict=True):
        parts = [name for name in step if name.startswith("loss")]
        expected = torch.tensor([step[name] for name in parts], dtype=torch.float64)
        found = torch.tensor([resumed[name] for name in parts], dtype=torch.float64)
        # forty structures in another order are summed with other rounding errors
        torch.testing.assert_close(found, expected, rtol=1e-3 if tangent else 1e-6, atol=1e-15)
