"""The course of a training run: what the weak terms weigh in each step, and who takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mace_weak.displacements import drawn
from mace_weak.evidence import Evidence, Knowledge, weigh
from mace_weak.losses import FORCES
from mace_weak.options import AUTO, WeakOptions
from mace_weak.schedules import (
    CONSTANT,
    LEARNING_RATE,
    REFERENCE_LEARNING_RATE,
    schedule_factor,
)
from mace_weak.weights import TANGENT_FORCES


@dataclass
class Course:
    """What the options mean in the steps of one training run.

    ``eligible`` tells of each structure of the training set whether it takes the weak terms.
    ``max_num_epochs`` is the length of the run, in epochs, that the schedule spans.
    ``order`` is that of the expansion, which the ``evidence`` of an anchored training set may have
    set.
    ``tangent`` is whether the anchor is the tangent model, whose forces are learned too.
    ``resample`` is off where a line search needs one objective for the whole run.
    """

    name: str
    options: WeakOptions
    seed: int
    max_num_epochs: float
    order: int
    anchored: bool = False
    from_scratch: bool = False
    evidence: Evidence | None = None
    tangent: bool = False
    resample: bool = True
    eligible: Sequence[bool] = ()
    steps_per_epoch: int = 1

    @property
    def base_weights(self) -> dict[str, float]:
        """Weights of the terms relative to the energy term, before the schedule."""
        weights = self.options.weights(
            self.name, anchored=self.anchored, order=self.order, forces_open=self.forces_open,
            tangent=self.tangent,
        )  # fmt: skip
        if self.tangent:
            weights[FORCES] = TANGENT_FORCES * sum(weights.values())
        return weights

    @property
    def schedule(self) -> str:
        """That of the options; the tangent model is learned at any learning rate alike."""
        by_default = self.options.schedule == LEARNING_RATE
        return CONSTANT if self.tangent and by_default else self.options.schedule

    @property
    def forces_open(self) -> bool:
        """Whether the anchor tells more of the forces than the labels do, in a fine-tuning."""
        return not self.from_scratch and self.evidence is not None and self.evidence.forces_open

    @property
    def doubt(self) -> str | None:
        """What speaks against the anchor, if anything does."""
        if self.evidence is None or not self.evidence.likeness.another_surface:
            return None
        return (
            f"the anchor leaves {self.evidence.likeness}: its surface is another one, and "
            f"{self.name} holds on to it. Choose another anchor, or weak_anchor none, or soften "
            "the foundation model first by a structure with forces (mace-weak soften)"
        )

    def weigh(self, structures: Iterable[Knowledge]) -> None:
        """Weigh the anchor by the training set, and choose order and weights where they are open.

        Without an anchor the structures are not asked for.
        """
        if not self.anchored:
            return
        self.evidence = weigh(structures)
        self.order = self.options.expansion_order(
            anchored=True, from_scratch=self.from_scratch, forces_open=self.forces_open
        )

    def take_tangent(self) -> None:
        """Train towards the tangent model, whose energies and forces are compared themselves."""
        self.tangent, self.order = True, 0

    def per_size(self, residual: Tensor, n_atoms: Tensor) -> Tensor:
        """What is penalised of residuals (n_structures,) in eV, alike in structures of any size.

        A residual of order 1 adds up over the atoms, as energies do: r/N. One of order 0 is the
        work of random displacements, whose sum grows with √N only: r/√N.
        """
        size = n_atoms.to(residual)
        return residual / (size if self.order else size.sqrt())

    def seeds(self, epoch: int) -> tuple[int, int]:
        """What the randomness of a step depends on, beside the structure."""
        return self.seed, epoch if self.resample else 0

    def weights(self, epoch: int, step: int, learning_rate: float) -> dict[str, float]:
        """Weights in ``step`` of ``epoch``, relative to the energy term; zeros are left out.

        A line search has no learning rate: there it counts as the reference. Of every k-th steps
        the first is that at which the terms begin.
        """
        begun = (epoch - self.options.start_epoch) * self.steps_per_epoch + step
        if self.resample and begun % self.options.every:
            return {}
        factor = schedule_factor(
            self.schedule,
            epoch=epoch + (step / self.steps_per_epoch if self.resample else 0.0),
            start_epoch=self.options.start_epoch,
            max_num_epochs=self.max_num_epochs,
            learning_rate=learning_rate if self.resample else REFERENCE_LEARNING_RATE,
        )
        return {
            term: factor * weight
            for term, weight in self.base_weights.items()
            if factor * weight > 0
        }

    def described(self, learning_rate: float) -> str:
        """What the terms do from their first epoch on, for a log."""
        options = self.options
        weights = self.weights(options.start_epoch, 0, learning_rate)
        listed = ", ".join(f"{term} {weight:g}" for term, weight in weights.items()) or "none"
        by_evidence = self.evidence and self.options.order == AUTO and not self.from_scratch
        reason = f" by {self.evidence}" if by_evidence else ""
        return (
            f"{self.name}, weights relative to the energy term: {listed} at the start (schedule "
            f"{self.schedule}), displacement {options.displacement:g} Å, order {self.order}"
            f"{reason}"
        )

    def rows(self, structures: Sequence[int], epoch: int) -> list[int]:
        """Rows, among the ``structures`` of a batch, of those that take the weak terms."""
        return [
            row
            for row, structure in enumerate(structures)
            if self.eligible[structure]
            and drawn(structure, fraction=self.options.fraction, seeds=self.seeds(epoch))
        ]


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The highest of the learning rates of an optimizer's groups; others are factors of it."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
