"""The bridge: what MACE does not hand to a loss, which is called with a batch and its prediction.

A weak loss also needs the model (to evaluate it at displaced positions), the anchor, the epoch and
the step. They live here, visibly, and nowhere else; ``WeakSession`` fills them in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from mace_weak.course import Course
from mace_weak.mace.anchor import Anchor
from mace_weak.mace.ledger import Ledger
from mace_weak.mace.tangent_anchor import TangentAnchor
from mace_weak.schedules import REFERENCE_LEARNING_RATE
from mace_weak.timing import Stopwatch


@dataclass
class Bridge:
    """State of the weak part of one training run."""

    course: Course
    model: torch.nn.Module | None = None
    anchor: Anchor | TangentAnchor | None = None
    learning_rate: Callable[[], float] = lambda: REFERENCE_LEARNING_RATE
    epoch: int = 0
    step: int = 0
    ledger: Ledger = field(default_factory=lambda: Ledger(Stopwatch(torch.device("cpu"))))

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0

    def next_step(self) -> int:
        """The number, in its epoch, of the step that begins."""
        step, self.step = self.step, self.step + 1
        return step
