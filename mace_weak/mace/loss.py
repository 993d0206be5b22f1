"""A MACE loss: the supervised loss of MACE plus the weak terms, and the record of its steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mace import modules
from mace.modules.loss import reduce_loss
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.mace.anchor import Anchor, ModelPotential
from mace_weak.mace.dataset import anchor_labels, structure_numbers
from mace_weak.mace.graphs import graph_of, subset_of
from mace_weak.mace.kinds import extra_inputs, position_energy
from mace_weak.mace.tangent import TangentAnchor
from mace_weak.potentials import Potential, Reference, Sample
from mace_weak.schedule import REFERENCE_LEARNING_RATE, Place, WeakSchedule
from mace_weak.step import (
    Penalty,
    Stopwatch,
    Subset,
    WeakStep,
    absolute,
    huber,
    penalties_of,
    require_finite,
    require_finite_supervised,
    residuals_of,
    squared,
)

# MACE's losses that ignore the weights of the structures (config_weight, config_type_weights)
UNWEIGHTED = (modules.UniversalLoss, modules.WeightedHuberEnergyForcesStressLoss)


@dataclass(frozen=True)
class Entry:
    """One evaluation of the loss. ``parts`` are the weak parts as added to the loss.

    ``residuals`` (n_selected,) are those of ``residuals_of`` for the ``step``, which is None
    where there are no weak parts.
    """

    supervised: Tensor
    step: WeakStep | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    residuals: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Sums:
    """Means of the parts, and the time, since the last report."""

    count: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    weak_seconds: float = 0.0
    step_seconds: float = 0.0

    def add(self, values: dict[str, float]) -> None:
        self.count += 1
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.totals.items() if self.count}


class Ledger:
    """Collects entries during a step and reads them afterwards, so that no step has to wait."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch
        self._pending: list[Entry] = []
        self._step = Sums()
        self._epoch = Sums()

    def add(self, entry: Entry) -> None:
        self._pending.append(entry)

    def settle(self) -> None:
        """Read the pending entries.

        Raises:
            NonFiniteWeakLossError: if a part of the loss is infinite or not a number.
        """
        pending, self._pending = self._pending, []
        for entry in pending:
            values = {name: float(value) for name, value in entry.parts.items()}
            supervised = float(entry.supervised)
            if entry.step is not None:
                require_finite_supervised(supervised, entry.step.epoch, entry.step.number)
                counted = "counted from 0, in MACE's order"
                require_finite(entry.step, values, entry.residuals, counted=counted)
            self._step.add({"supervised": supervised, **values})
        if pending:
            self._step.weak_seconds += self.watch.seconds()

    def step_report(self, step_seconds: float) -> dict[str, float]:
        """Means over the evaluations of the last step, and the seconds of its weak part."""
        self.settle()
        step, self._step = self._step, Sums()
        if step.count:
            self._epoch.add(step.means())
        self._epoch.weak_seconds += step.weak_seconds
        self._epoch.step_seconds += step_seconds
        parts = {f"loss_{name}": mean for name, mean in step.means().items()}
        return {**parts, "time_weak": step.weak_seconds}

    def log_epoch(self, epoch: int) -> None:
        """Write the epoch's means and the weak part's share of its time to MACE's log."""
        sums, self._epoch = self._epoch, Sums()
        if not sums.count:
            return
        parts = ", ".join(f"{name}={mean:.6g}" for name, mean in sums.means().items())
        share = sums.weak_seconds / sums.step_seconds if sums.step_seconds else 0.0
        logging.info(
            "Epoch %d: training loss parts: %s; weak part %.0f %% of the time",
            epoch,
            parts,
            100 * share,
        )


class ReportingLogger:
    """MACE's ``MetricsLogger``, with the parts of the loss added to what it logs."""

    def __init__(self, logger: Any, ledger: Ledger) -> None:
        self._logger = logger
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def log(self, metrics: dict[str, Any]) -> None:
        if metrics.get("mode") == "opt":
            metrics |= self._ledger.step_report(metrics["time"])
        elif metrics.get("epoch") is not None:
            self._ledger.log_epoch(metrics["epoch"])
        self._logger.log(metrics)


@dataclass
class Bridge:
    """What MACE does not hand to a loss, which is called with a batch and its prediction.

    A weak loss also needs the model (to evaluate it at displaced positions), the anchor, the
    schedule, and where the run is. They live here, visibly, and nowhere else; ``WeakSession`` sets
    them when training begins.
    """

    name: str
    schedule: WeakSchedule | None = None
    model: torch.nn.Module | None = None
    anchor: Anchor | TangentAnchor | None = None
    learning_rate: Callable[[], float] = lambda: REFERENCE_LEARNING_RATE
    epoch: int = 0
    steps: int = 0
    ledger: Ledger = field(default_factory=lambda: Ledger(Stopwatch(torch.device("cpu"))))

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.steps = epoch, 0

    def next_place(self) -> Place:
        """The step that begins, by its number in its epoch."""
        number, self.steps = self.steps, self.steps + 1
        return Place(self.epoch, number, self.learning_rate())


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
        self.supervised = supervised
        self.penalty = energy_penalty(supervised)
        self.bridge = bridge

    @property
    def validation_loss(self) -> torch.nn.Module:
        """What MACE evaluates by: the supervised loss."""
        return self.supervised

    def set_epoch(self, epoch: int) -> None:
        self.bridge.set_epoch(epoch)

    def forward(self, ref: Any, pred: dict[str, Any], ddp: bool | None = None) -> Tensor:
        """The loss, in the units of the supervised one. The arguments are MACE's.

        Raises:
            NonFiniteWeakLossError: if a weak part of an earlier step was not finite.
        """
        bridge = self.bridge
        if bridge.schedule is None or bridge.model is None:
            raise RuntimeError("a weak loss was called before its training began")
        bridge.ledger.settle()
        supervised = self.supervised(ref, pred, ddp)
        step = bridge.schedule.step(bridge.next_place(), structure_numbers(ref))
        if step is None:
            bridge.ledger.add(Entry(supervised.detach()))
            return supervised
        bridge.ledger.watch.start()
        parts, residuals = self._parts(step, bridge.model, ref, pred, ddp)
        weak = torch.stack(list(parts.values())).sum()
        bridge.ledger.watch.time_backward_from(weak)
        bridge.ledger.watch.stop()
        bridge.ledger.add(Entry(supervised.detach(), step, _detached(parts), _detached(residuals)))
        return supervised + weak

    def _parts(
        self,
        step: WeakStep,
        model: torch.nn.Module,
        ref: Any,
        pred: dict[str, Any],
        ddp: bool | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weak parts of the loss, and ``residuals_of`` the step, by term."""
        if not step.rows:  # other processes may have some, and reduce_loss waits for all
            nothing = torch.zeros_like(ref["weight"])
            return {term: reduce_loss(nothing, ddp) for term in step.terms}, {}
        subset = subset_of(ref, step.rows)
        energies = position_energy(model, ref, pred)
        rest = Sample(subset.per_structure(energies), subset.per_atom(pred["forces"]))
        trained, anchor = self._potentials(model, ref, rest, subset)
        atoms_alone = (pred["energy"] - energies).detach()
        reference = _reference(ref, atoms_alone, subset)
        residuals = residuals_of(step, subset, trained, anchor, reference)
        energy_weight = self.supervised.get_buffer("energy_weight")
        penalties = penalties_of(
            step, subset, residuals, penalty=self.penalty,
            n_atoms=ref["ptr"][1:] - ref["ptr"][:-1],
            scale=energy_weight * subset.per_structure(weights_of(self.supervised, ref)),
        )  # fmt: skip
        return {term: reduce_loss(penalty, ddp) for term, penalty in penalties.items()}, residuals

    def _potentials(
        self, model: torch.nn.Module, batch: Any, rest: Sample, subset: Subset
    ) -> tuple[ModelPotential, Potential | None]:
        """The trained model, at ``rest`` known already, and the anchor on the subset of a batch."""
        anchor = self.bridge.anchor
        graph = graph_of(batch, subset, extra_inputs(model, getattr(anchor, "model", None)))
        trained = ModelPotential(model, graph, rest, watch=self.bridge.ledger.watch)
        if anchor is None:
            return trained, None
        energy, forces = anchor_labels(batch)
        labelled = Sample(subset.per_structure(energy), subset.per_atom(forces))
        return trained, anchor.potential(graph, labelled)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bridge.name}, supervised={self.supervised!r})"


def energy_penalty(supervised: torch.nn.Module) -> Penalty:
    """The penalty that one of MACE's losses puts on the per-atom energy error.

    Raises:
        WeakLossError: if the loss has no energy term.
    """
    if isinstance(supervised, UNWEIGHTED):
        return huber(supervised.huber_delta)
    if isinstance(supervised, modules.WeightedEnergyForcesL1L2Loss):
        return absolute
    if hasattr(supervised, "energy_weight"):
        return squared
    raise WeakLossError(f"{type(supervised).__name__} has no energy term to weigh against")


def weights_of(supervised: torch.nn.Module, ref: Any) -> Tensor:
    """The weights of the structures (n_structures,) in MACE's energy term, which some ignore."""
    ignored = isinstance(supervised, UNWEIGHTED)
    return torch.ones_like(ref["weight"]) if ignored else ref["weight"]


def _detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}


def _reference(batch: Any, atoms_alone: Tensor, subset: Subset) -> Reference:
    """The labels of the selected structures; the energies without those of the ``atoms_alone``."""
    return Reference(
        energy=subset.per_structure(batch["energy"] - atoms_alone),
        forces=subset.per_atom(batch["forces"]),
        has_energy=subset.per_structure(batch["energy_weight"] > 0),
        has_forces=subset.per_structure(batch["forces_weight"] > 0),
    )
