"""State of the weak part of a run, and the record of its steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mace_weak.mace.anchor import Anchor
from mace_weak.mace.tangent import TangentAnchor
from mace_weak.schedule import REFERENCE_LEARNING_RATE, Place, WeakSchedule
from mace_weak.step import WeakStep, require_finite
from mace_weak.timing import Stopwatch


@dataclass(frozen=True)
class Entry:
    """One evaluation of the loss. ``parts`` are the weak parts as added to the loss.

    ``residuals`` (n_selected,) in eV are those of the structures of the ``step``, which is None
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
            NonFiniteWeakLossError: if a weak part is infinite or not a number.
        """
        pending, self._pending = self._pending, []
        for entry in pending:
            values = {name: float(value) for name, value in entry.parts.items()}
            if entry.step is not None:
                counted = "counted from 0, in MACE's order"
                require_finite(entry.step, values, entry.residuals, counted=counted)
            self._step.add({"supervised": float(entry.supervised), **values})
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
