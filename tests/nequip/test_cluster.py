"""The batch script for NequIP, run to the end by a real Slurm on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forked import SCRIPTS
from readme_commands import ROOT, batch_calls
from slurm import needs_slurm
from training import CUTOFF, ETHANOL_SHIFTS, Run

from mace_weak.command.propose import per_type

(CALL,) = (call for call in batch_calls().values() if call.script.name == "nequip.slurm")
EPOCHS = 60


class Result(Run):
    """What the recipe's configuration leaves behind."""

    @property
    def checkpoint(self) -> Path:
        return self.folder / "last.ckpt"


@pytest.fixture
def submit(cluster, files, foundation, tmp_path, monkeypatch):
    """Submit the README's call, shrunk, with a folder of that name; returns the job."""
    monkeypatch.setenv("PATH", str(SCRIPTS), prepend=":")
    monkeypatch.setenv("VENV", "")
    monkeypatch.setenv("DEVICE", "cpu")
    config, _, *overrides = CALL.arguments
    overrides += [
        f"package={foundation}",
        f"train_file={files.ethanol}",
        f"shifts={per_type(ETHANOL_SHIFTS)}",
        f"cutoff={CUTOFF}",
        f"trainer.max_epochs={EPOCHS}",
    ]

    def submitted(name: str) -> str:
        return cluster.submit(
            CALL.script, config, str(tmp_path / name), *overrides, cwd=ROOT,
            options=[*CALL.options, f"--output={tmp_path / name}.log", "--cpus-per-task=1"],
        )  # fmt: skip

    return submitted


@needs_slurm
def test_a_killed_job_goes_on_and_ends_alike(cluster, submit, tmp_path):
    names = ("whole", "killed, seed=1")  # with what Hydra's overrides give a meaning
    whole, killed = map(submit, names)
    log = tmp_path / f"{names[1]}.log"
    cluster.wait_for(lambda: (tmp_path / names[1] / "last.ckpt").exists(), "a checkpoint", 120)
    cluster.call("scancel", "--batch", "--signal=USR1", killed)
    cluster.start_again(killed)
    assert cluster.wait(whole) + cluster.wait(killed) == ["COMPLETED"] * 2, log.read_text()[-3000:]
    assert log.read_text().count("time is nearly over: requeued") == 1
    assert log.read_text().count("Restored all states from the checkpoint") == 1
    ends = [Result(tmp_path / name) for name in names]
    assert [end.state["epoch"] for end in ends] == [EPOCHS - 1] * 2
    torch.testing.assert_close(ends[1].parameters, ends[0].parameters, rtol=0, atol=0)
