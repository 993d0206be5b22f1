"""The bridge: what MACE does not hand to a loss, which is called with a batch and its prediction.

A weak loss also needs the model (to evaluate it at displaced positions), the anchor, the epoch and
the step. They live here, visibly, and nowhere else; ``WeakSession`` fills them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from mace_weak.displacements import drawn
from mace_weak.losses import loss_terms
from mace_weak.mace.anchor import Anchor
from mace_weak.mace.ledger import Ledger
from mace_weak.options import WeakOptions
from mace_weak.schedules import schedule_factor
from mace_weak.timing import Stopwatch


@dataclass
class Bridge:
    """State of the weak part of one training run.

    ``eligible`` tells of each structure of the training set whether it takes the weak terms.
    ``resample`` is off for L-BFGS, whose line search needs one objective for the whole run.
    """

    name: str
    options: WeakOptions
    seed: int
    max_num_epochs: int
    resample: bool = True
    model: torch.nn.Module | None = None
    anchor: Anchor | None = None
    eligible: Sequence[bool] = ()
    steps_per_epoch: int = 1
    epoch: int = 0
    step: int = 0
    ledger: Ledger = field(default_factory=lambda: Ledger(Stopwatch(torch.device("cpu"))))

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the terms relative to the energy term, before the schedule."""
        return {
            term: self.options.weight(term, anchored=self.anchor is not None)
            for term in loss_terms(self.name)
        }

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0

    def seeds(self) -> tuple[int, int]:
        """What the randomness of the present step depends on, beside the structure."""
        return self.seed, self.epoch if self.resample else 0

    def next_step(self) -> dict[str, float]:
        """Weights of the terms in the coming step, relative to the energy term; zeros left out."""
        step, self.step = self.step, self.step + 1
        if self.resample and (self.epoch * self.steps_per_epoch + step) % self.options.every:
            return {}
        factor = schedule_factor(
            self.options.schedule,
            epoch=self.epoch + (step / self.steps_per_epoch if self.resample else 0.0),
            start_epoch=self.options.start_epoch,
            max_num_epochs=self.max_num_epochs,
        )
        return {
            term: factor * weight for term, weight in self.weights.items() if factor * weight > 0
        }

    def rows(self, structures: Sequence[int]) -> list[int]:
        """Rows, among the ``structures`` of a batch, of those that take the weak terms now."""
        return [
            row
            for row, structure in enumerate(structures)
            if self.eligible[structure]
            and drawn(structure, fraction=self.options.fraction, seeds=self.seeds())
        ]
