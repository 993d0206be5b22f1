"""Two processes give the gradients of one on the joint batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commands import trained
from metric_worker import mean_of_rank
from roads import Start
from slurm import free_port
from training import Config, changed, weak_config

STRATEGIES = {
    "plain": {
        "_target_": "lightning.pytorch.strategies.DDPStrategy",
        "process_group_backend": "gloo",
    },
    "SimpleDDPStrategy": {
        "_target_": "nequip.train.SimpleDDPStrategy",
        "process_group_backend": "gloo",
    },
}


def by_two_processes(config: Config, strategy: str) -> Config:
    return changed(
        config,
        data__train_dataloader__batch_size=2,
        trainer__devices=2,
        trainer__strategy=STRATEGIES[strategy],
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_equal_one_on_the_joint_batch(tmp_path, finetune, strategy):
    """Four structures are one step: two in each process, or four in one.

    Lightning shuffles the structures of distributed trainings, so these four are all.
    """
    config = weak_config(
        changed(
            finetune,
            data__split_dataset={**finetune["data"]["split_dataset"], "train": 4, "val": 8},
            trainer__max_epochs=4,
        ),
        "weak_piwsl",
        weak_taylor_weight=100,
        weak_spatial_weight=100,
    )
    one = trained(tmp_path / "one", config)
    two = trained(tmp_path / "two", by_two_processes(config, strategy))
    for name in ("supervised", "weak_taylor", "weak_spatial"):
        assert two.column(name) == pytest.approx(one.column(name), rel=1e-3)
        assert max(two.column(name)) > 0
    torch.testing.assert_close(two.parameters, one.parameters, rtol=1e-4, atol=1e-6)


def test_two_processes_share_one_tangent_model(tmp_path, files, foundation, foundation_checkpoint):
    start = Start(files, foundation, foundation_checkpoint)
    config = weak_config(changed(start.settled(), trainer__max_epochs=1), weak_anchor="tangent")
    one = trained(tmp_path / "one", config)
    two = trained(tmp_path / "two", by_two_processes(config, "plain"))
    changes = [np.load(run.checkpoint.with_name("tangent.npz"))["change"] for run in (one, two)]
    np.testing.assert_allclose(changes[1], changes[0], rtol=1e-3, atol=1e-6)
    assert max(two.column("weak_forces")) > 0


def test_a_process_without_labels_stays_in_step(tmp_path):
    """Its step has the mean of the other's labels, and zero where there are none at all."""
    torch.multiprocessing.spawn(mean_of_rank, (free_port(), str(tmp_path)), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / str(rank)) == [4.0, 1.0, 0.0]
