"""How the weight of the weak terms changes over training."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


def schedule_factor(
    schedule: str, *, epoch: float, start_epoch: int, max_num_epochs: float
) -> float:
    """Factor in [0, 1] of the weak weight at ``epoch`` (fractional within an epoch).

    It is 0 before ``start_epoch``; from there ``linear`` and ``cosine`` fall from 1 to 0 at
    ``max_num_epochs``.
    """
    if epoch < start_epoch:
        return 0.0
    length = max_num_epochs - start_epoch
    return SCHEDULES[schedule](min(1.0, (epoch - start_epoch) / length) if length > 0 else 1.0)
