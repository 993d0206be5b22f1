"""The account of a run: supervised and weak parts of each step, for MACE's results and log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mace_weak.step import require_finite
from mace_weak.timing import Stopwatch


@dataclass(frozen=True)
class Entry:
    """One evaluation of the loss. ``parts`` are the weak parts as added to the loss.

    ``residuals`` (n_selected,) in eV are those of ``structures`` (numbers in the training set).
    """

    epoch: int
    step: int
    supervised: Tensor
    parts: dict[str, Tensor]
    residuals: dict[str, Tensor]
    structures: Sequence[int]


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
            require_finite(
                values,
                entry.residuals,
                entry.structures,
                epoch=entry.epoch,
                step=entry.step,
                counted="counted from 0, in MACE's order",
            )
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
