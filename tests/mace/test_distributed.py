"""Two processes give the gradients of one on the joint batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import trained
from forked import SCRIPTS

WORKER = str(Path(__file__).with_name("distributed_worker.py"))


def torchrun(processes: int) -> list[str]:
    return [str(SCRIPTS / "torchrun"), f"--nproc-per-node={processes}", "--standalone", WORKER]


@pytest.mark.parametrize("loss", ["weighted", "weak_piwsl"])
def test_two_processes_equal_one_on_the_joint_batch(tmp_path, one_batch_flags, loss):
    """Four structures are one step: two in each process, or four in one."""
    flags = (
        *one_batch_flags,
        f"--loss={loss}",
        "--distributed",
        "--launcher=torchrun",
        "--max_num_epochs=4",
    )
    one = trained(tmp_path / "one", torchrun(1), *flags, "--batch_size=4")
    two = trained(tmp_path / "two", torchrun(2), *flags, "--batch_size=2")
    if loss != "weighted":
        assert max(two.column("loss_taylor")) > 0
        assert max(two.column("loss_spatial")) > 0
    torch.testing.assert_close(two.parameters, one.parameters, rtol=1e-7, atol=1e-9)


def test_two_processes_share_one_tangent_model(tmp_path, settled_batch_flags):
    """Forty structures are one step: twenty in each process, or forty in one."""
    flags = (
        *settled_batch_flags,
        "--loss=weak_taylor",
        "--distributed",
        "--launcher=torchrun",
        "--max_num_epochs=3",
    )
    one = trained(tmp_path / "one", torchrun(1), *flags)
    two = trained(tmp_path / "two", torchrun(2), *flags, "--batch_size=20")
    assert max(two.column("loss_forces")) > 0
    assert two.log.count("solving for the tangent model") == 1
    torch.testing.assert_close(two.parameters, one.parameters, rtol=1e-6, atol=1e-8)
