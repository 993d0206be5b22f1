"""How the weight of the weak terms changes over training."""

from __future__ import annotations

import math
from collections.abc import Callable

CONSTANT = "constant"
LEARNING_RATE = "learning_rate"
# at which the weights are as given, for ``learning_rate``: MACE's default
REFERENCE_LEARNING_RATE = 0.01
SPANNING: dict[str, Callable[[float], float]] = {
    CONSTANT: lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
SCHEDULES = (*SPANNING, LEARNING_RATE)


def schedule_factor(
    schedule: str,
    *,
    epoch: float,
    start_epoch: int,
    max_num_epochs: float,
    learning_rate: float,
) -> float:
    """Factor of the weak weight at ``epoch`` (fractional within an epoch).

    It is 0 before ``start_epoch``; from there ``linear`` and ``cosine`` fall from 1 to 0 at
    ``max_num_epochs``, and ``learning_rate`` is in proportion to the optimizer's learning rate
    there, 1 at ``REFERENCE_LEARNING_RATE``.
    """
    if epoch < start_epoch:
        return 0.0
    if schedule == LEARNING_RATE:
        return learning_rate / REFERENCE_LEARNING_RATE
    length = max_num_epochs - start_epoch
    return SPANNING[schedule](min(1.0, (epoch - start_epoch) / length) if length > 0 else 1.0)
