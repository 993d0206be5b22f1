"""A MACE loss: the supervised loss of MACE plus the weak terms."""

from __future__ import annotations

from typing import Any

import torch
from mace import modules
from mace.modules.loss import reduce_loss
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.losses import FORCES
from mace_weak.mace.bridge import Bridge
from mace_weak.mace.dataset import structure_numbers
from mace_weak.mace.evaluation import batch_residuals
from mace_weak.mace.graphs import Selection
from mace_weak.mace.ledger import Entry
from mace_weak.penalties import Penalty, absolute, huber, squared


class WeakLoss(torch.nn.Module):
    """L = L_supervised + w_E Σ_t w_t s(t) mean_S[ w_S ℓ(r_t(S)/N) ], of order 0 with ℓ(r_t(S)/√N).

    w_E is the supervised energy weight, w_t the weight of the term, s its schedule, w_S MACE's
    weight of the structure, and ℓ the penalty that the supervised loss puts on the per-atom
    energy error, so that the weights are relative to the energy term and have no unit. The mean is
    over the structures of the batch, by MACE's ``reduce_loss``. Anchored on the tangent model, the
    loss also has the mean square of the force components that differ from its own.
    """

    def __init__(self, supervised: torch.nn.Module, bridge: Bridge) -> None:
        super().__init__()
        self.validation_loss = supervised
        self.penalty = energy_penalty(supervised)
        self.bridge = bridge

    def set_epoch(self, epoch: int) -> None:
        self.bridge.set_epoch(epoch)

    def forward(self, ref: Any, pred: dict[str, Any], ddp: bool | None = None) -> Tensor:
        """The loss, in the units of the supervised one. The arguments are MACE's.

        Raises:
            NonFiniteWeakLossError: if a weak part of an earlier step was not finite.
        """
        bridge, course = self.bridge, self.bridge.course
        bridge.ledger.settle()
        supervised = self.validation_loss(ref, pred, ddp)
        step = bridge.next_step()
        weights = course.weights(bridge.epoch, step, bridge.learning_rate())
        if not weights:
            bridge.ledger.add(Entry(bridge.epoch, step, supervised.detach(), {}, {}, ()))
            return supervised
        bridge.ledger.watch.start()
        numbers = structure_numbers(ref)
        rows = course.rows(numbers, bridge.epoch)
        structures = [numbers[row] for row in rows]
        parts, residuals, positions = self._parts(ref, pred, weights, rows, structures, ddp)
        weak = torch.stack(list(parts.values())).sum()
        if positions is not None:
            bridge.ledger.watch.time_backward(weak, positions)
        bridge.ledger.watch.stop()
        bridge.ledger.add(
            Entry(
                epoch=bridge.epoch,
                step=step,
                supervised=supervised.detach(),
                parts={term: part.detach() for term, part in parts.items()},
                residuals={term: residual.detach() for term, residual in residuals.items()},
                structures=structures,
            )
        )
        return supervised + weak

    def _parts(
        self,
        ref: Any,
        pred: dict[str, Any],
        weights: dict[str, float],
        rows: list[int],
        structures: list[int],
        ddp: bool | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor | None]:
        bridge, options = self.bridge, self.bridge.course.options
        if bridge.model is None:
            raise RuntimeError("a weak loss was called before its training began")
        if not rows:  # other processes may have some, and reduce_loss waits for all
            nothing = torch.zeros_like(ref["weight"])
            return {term: reduce_loss(nothing, ddp) for term in weights}, {}, None
        selection = Selection.of(ref, rows)
        residuals, positions = batch_residuals(
            ref,
            pred,
            selection,
            structures=structures,
            model=bridge.model,
            anchor=bridge.anchor,
            options=options,
            order=bridge.course.order,
            terms=tuple(weights),
            seeds=bridge.course.seeds(bridge.epoch),
        )
        n_atoms = selection.per_structure(ref["ptr"][1:] - ref["ptr"][:-1])
        structure_weight = selection.per_structure(ref["weight"]) / options.fraction
        energy_weight = self.validation_loss.get_buffer("energy_weight")
        parts = {}
        for term, residual in residuals.items():
            if term == FORCES:  # squared already
                penalties = structure_weight * residual
            else:
                per_size = bridge.course.per_size(residual, n_atoms)
                penalties = structure_weight * self.penalty(per_size)
            everywhere = selection.scattered(penalties, ref.num_graphs)
            parts[term] = weights[term] * energy_weight * reduce_loss(everywhere, ddp)
        return parts, residuals, positions

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.bridge.course.name}, supervised={self.validation_loss!r})"
        )


def energy_penalty(supervised: torch.nn.Module) -> Penalty:
    """The penalty that one of MACE's losses puts on the per-atom energy error.

    Raises:
        WeakLossError: if the loss has no energy term.
    """
    if isinstance(supervised, modules.UniversalLoss | modules.WeightedHuberEnergyForcesStressLoss):
        return huber(supervised.huber_delta)
    if isinstance(supervised, modules.WeightedEnergyForcesL1L2Loss):
        return absolute
    if hasattr(supervised, "energy_weight"):
        return squared
    raise WeakLossError(f"{type(supervised).__name__} has no energy term to weigh against")
