"""One training run, as its log tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_weak.losses import SPATIAL, TAYLOR

SUPERVISED = "supervised"
WEAK = (TAYLOR, SPATIAL)
ENERGY, FORCES = "energy", "forces"
BEFORE = -1  # the epoch of a validation before the first one

Curve = Mapping[int, float]  # by epoch, in order
Row = Mapping[str, Any]  # of a log, with its "epoch"


@dataclass(frozen=True, kw_only=True)
class Training:
    """Curves by epoch.

    ``losses`` are means of an epoch of the parts of the loss: ``supervised``, and ``taylor`` and
    ``spatial`` as they were added to it; a loss without weak terms is all supervised.
    ``validation`` is what the host chooses the model by, in its own units. ``errors`` are RMSE in
    validation: ``energy`` in meV/atom, ``forces`` in meV/Å.
    """

    root: Path
    name: str
    host: str
    losses: Mapping[str, Curve]
    validation: Curve
    errors: Mapping[str, Curve]
    planned: int | None  # epochs, if the log tells them
    may_stop: bool  # before the planned epochs, by a rule of its own
    reweighted: bool  # the loss changed its weights on the way
    weak_time: float | None  # share of the steps' time
    superseded: int  # epochs that a later start repeated

    @property
    def epochs(self) -> int:
        """Up to the last one."""
        return max(self.losses[SUPERVISED], default=-1) + 1

    @property
    def weak(self) -> list[str]:
        """The weak terms in the log."""
        return [name for name in WEAK if self.losses.get(name)]

    @property
    def best(self) -> int | None:
        """Epoch of the best validation."""
        finite = {epoch: value for epoch, value in self.validation.items() if value == value}
        return min(finite, key=lambda epoch: finite[epoch], default=None)


def first(curve: Curve) -> float | None:
    """The first value of a curve, None without any."""
    return next(iter(curve.values()), None)


def last(curve: Curve) -> float | None:
    """The last value of a curve, None without any."""
    return next(reversed(list(curve.values())), None)


def means(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Mean value of each epoch."""
    collected: dict[int, list[float]] = {}
    for epoch, value in values:
        collected.setdefault(epoch, []).append(value)
    return {epoch: sum(each) / len(each) for epoch, each in sorted(collected.items())}


def joined(attempts: Sequence[Sequence[Row]]) -> tuple[list[Row], int]:
    """The rows of a training that was started several times, each on top of the one before.

    A start takes the place of what came after its first epoch, so that a start at 0 replaces all;
    also returned is how many epochs were replaced.
    """
    kept: list[Row] = []
    replaced = 0
    for rows in attempts:
        if not rows:
            continue
        begin = min(row["epoch"] for row in rows)
        replaced += len({row["epoch"] for row in kept if row["epoch"] >= max(0, begin)})
        kept = [row for row in kept if row["epoch"] < begin] + list(rows)
    return kept, replaced
