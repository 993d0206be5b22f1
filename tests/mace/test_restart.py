"""A restart continues the weak term as an uninterrupted run would.

MACE itself repeats the epoch of the checkpoint it restarts from, and starts its shuffling anew,
with any loss. Renaming the checkpoint to the next epoch and training on one batch an epoch take
both out of the comparison.
"""

from __future__ import annotations

import shutil

import torch
from training import train


def test_a_restart_equals_an_uninterrupted_run(tmp_path, one_batch_flags):
    flags = (
        *one_batch_flags,
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
    again = train(tmp_path / "again", *flags, "--restart_latest")
    later = [step for step in whole.steps if step["epoch"] >= 3]
    assert [step["epoch"] for step in again.steps] == [step["epoch"] for step in later]
    assert any("loss_taylor" in step for step in later)
    for resumed, step in zip(again.steps, later, strict=True):
        parts = [name for name in step if name.startswith("loss")]
        expected = torch.tensor([step[name] for name in parts], dtype=torch.float64)
        found = torch.tensor([resumed[name] for name in parts], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-15)
