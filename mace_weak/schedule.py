"""The weak terms over a training run: which steps and structures take them, with which weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mace_weak.defaults import Resolved
from mace_weak.displacements import drawn
from mace_weak.options import (
    CONSTANT,
    COSINE,
    LEARNING_RATE,
    LINEAR,
    REFERENCE_LEARNING_RATE,
    WeakOptions,
)
from mace_weak.step import WeakStep

SPANNING: dict[str, Callable[[float], float]] = {
    CONSTANT: lambda progress: 1.0,
    LINEAR: lambda progress: 1.0 - progress,
    COSINE: lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


@dataclass(frozen=True)
class Place:
    """Where a run is: the epoch, the step within it, and the optimizer's learning rate."""

    epoch: int
    step: int
    learning_rate: float = REFERENCE_LEARNING_RATE


@dataclass(frozen=True, kw_only=True)
class WeakSchedule:
    """What the options of the loss ``name`` mean in the steps of one training run.

    ``n_epochs`` is the length of the run, ``eligible`` says of each structure of the training set
    whether it takes the weak terms, and ``resample`` is off where a line search needs one objective
    for the whole run.
    """

    name: str
    options: WeakOptions
    resolved: Resolved
    seed: int
    n_epochs: float
    steps_per_epoch: int
    eligible: Sequence[bool]
    resample: bool = True

    def weights(self, place: Place) -> dict[str, float]:
        """Weights in a step, relative to the energy term; zeros are left out.

        A line search has no learning rate: there it counts as the reference. Of every k-th steps
        the first is that at which the terms begin.
        """
        epoch, step = place.epoch, place.step
        begun = (epoch - self.options.start_epoch) * self.steps_per_epoch + step
        if self.resample and begun % self.options.every:
            return {}
        factor = schedule_factor(
            self.resolved.schedule,
            epoch=epoch + (step / self.steps_per_epoch if self.resample else 0.0),
            start_epoch=self.options.start_epoch,
            n_epochs=self.n_epochs,
            learning_rate=place.learning_rate if self.resample else REFERENCE_LEARNING_RATE,
        )
        return {
            term: factor * weight
            for term, weight in self.resolved.weights.items()
            if factor * weight > 0
        }

    def step(self, place: Place, structures: Sequence[int]) -> WeakStep | None:
        """What the weak terms do in a step on the ``structures`` of a batch; None if nothing."""
        weights = self.weights(place)
        if not weights:
            return None
        rows = self.rows(structures, place.epoch)
        return WeakStep(
            epoch=place.epoch,
            number=place.step,
            weights=weights,
            order=self.resolved.order,
            rows=rows,
            structures=[structures[row] for row in rows],
            seeds=self.seeds(place.epoch),
            options=self.options,
        )

    def seeds(self, epoch: int) -> tuple[int, int]:
        """What the randomness of a step depends on, beside the structure."""
        return self.seed, epoch if self.resample else 0

    def rows(self, structures: Sequence[int], epoch: int) -> list[int]:
        """Rows, among the ``structures`` of a batch, of those that take the weak terms."""
        return [
            row
            for row, structure in enumerate(structures)
            if self.eligible[structure]
            and drawn(structure, fraction=self.options.fraction, seeds=self.seeds(epoch))
        ]

    def described(self, learning_rate: float) -> str:
        """What the terms do from their first epoch on, for a log."""
        options, resolved = self.options, self.resolved
        weights = self.weights(Place(options.start_epoch, 0, learning_rate))
        listed = ", ".join(f"{term} {weight:g}" for term, weight in weights.items()) or "none"
        return (
            f"{self.name}, weights relative to the energy term: {listed} at the start (schedule "
            f"{resolved.schedule}), displacement {options.displacement:g} Å, order "
            f"{resolved.order}{resolved.reason}"
        )


def schedule_factor(
    schedule: str, *, epoch: float, start_epoch: int, n_epochs: float, learning_rate: float
) -> float:
    """Factor of the weak weight at ``epoch`` (fractional within an epoch).

    It is 0 before ``start_epoch``; from there ``linear`` and ``cosine`` fall from 1 to 0 at
    ``n_epochs``, and ``learning_rate`` is in proportion to the optimizer's learning rate there, 1
    at ``REFERENCE_LEARNING_RATE``.
    """
    if epoch < start_epoch:
        return 0.0
    if schedule == LEARNING_RATE:
        return learning_rate / REFERENCE_LEARNING_RATE
    length = n_epochs - start_epoch
    return SPANNING[schedule](min(1.0, (epoch - start_epoch) / length) if length > 0 else 1.0)


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The highest of the learning rates of an optimizer's groups; others are factors of it."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
