"""What each process of a test of a metric does; it is started anew, without the fixtures."""

from __future__ import annotations

import torch

from mace_weak.nequip.train.losses import LabelledMeanSquaredError


def mean_of_rank(rank: int, port: int, path: str) -> None:
    """Three steps: labels in the process 0 alone, in both, in none."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    metric = LabelledMeanSquaredError(dist_sync_on_step=True)
    found = []
    for count, error in ((3 - 3 * rank, 2.0), (3, 1.0), (0, 1.0)):
        preds = torch.full((count,), error)
        found.append(float(metric(preds, torch.zeros_like(preds))))
    torch.save(found, f"{path}/{rank}")
