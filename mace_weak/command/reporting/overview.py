"""Tables, findings and the picture of trainings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mace_weak.command.output import Finding, Result, Table
from mace_weak.command.reporting.logs import read_trainings
from mace_weak.command.reporting.training import (
    BEFORE,
    ENERGY,
    FORCES,
    SUPERVISED,
    WEAK,
    Training,
    first,
    last,
)
from mace_weak.command.reporting.training_picture import side_by_side
from mace_weak.errors import WeakLossError

PICTURE = "report.png"
EARLY = 0.5  # of the training: a best validation before that is often chance


def reported(paths: Sequence[Path], out: Path) -> Result:
    """Everything about the trainings in the given folders and files; writes the picture.

    Raises:
        WeakLossError: if one has no log, or the picture cannot be written.
    """
    trainings = read_trainings(paths)
    result = Result(
        tables=[table(trainings) for table in (run_table, loss_table, validation_table)]
    )
    for training in trainings:
        result.findings += findings(training)
        if training.superseded:
            result.notes.append(
                f"{training.name} was started again: {training.superseded} epochs of earlier "
                "starts, which later ones repeated, are left out"
            )
    result.written.append(save(side_by_side(trainings), out))
    return result


def run_table(trainings: Sequence[Training]) -> Table:
    """How far the trainings came, and what the weak terms cost where it was timed."""
    rows = [
        [
            training.name,
            training.host,
            training.epochs,
            training.planned,
            None if training.weak_time is None else 100 * training.weak_time,
        ]
        for training in trainings
    ]
    return Table(
        "Trainings", ("run", "host", "epochs", "planned", "weak terms, % of the time"), rows
    )


def loss_table(trainings: Sequence[Training]) -> Table:
    """Parts of the loss in the first and the last epoch, means over their steps."""
    columns = ("run", "supervised, first", "last", *(f"{term}, last" for term in WEAK), "weak, %")
    rows = [
        [
            training.name,
            first(training.losses[SUPERVISED]),
            last(training.losses[SUPERVISED]),
            *(last(training.losses[term]) for term in WEAK),
            weak_share(training),
        ]
        for training in trainings
    ]
    return Table("Training loss", columns, rows)


def weak_share(training: Training) -> float | None:
    """Of the weak parts in the loss of the last epoch, %."""
    if not training.weak:
        return None
    epoch = training.epochs - 1
    weak = sum(training.losses[term].get(epoch, 0.0) for term in training.weak)
    total = weak + training.losses[SUPERVISED][epoch]
    return 100 * weak / total if total else None


def validation_table(trainings: Sequence[Training]) -> Table:
    """When the validation that chooses the model was best, and the errors of the last one."""
    columns = (
        "run", "last epoch", "best epoch", "best is early", "energy, meV/atom", "forces, meV/Å",
    )  # fmt: skip
    rows = [
        [
            training.name,
            max(training.validation, default=None),
            "before" if training.best == BEFORE else training.best,
            is_early(training),
            last(training.errors[ENERGY]),
            last(training.errors[FORCES]),
        ]
        for training in trainings
    ]
    return Table("Validation", columns, rows)


def is_early(training: Training) -> bool | None:
    """Whether the best validation is long before the end."""
    if training.best is None:
        return None
    return training.best < EARLY * max(training.validation)


def findings(training: Training) -> Iterator[Finding]:
    """What went wrong in a training."""
    broken = list(not_finite(training))
    yield from broken
    if not broken and not training.reweighted:  # else losses cannot be compared
        yield from risen(training)
    yield from idle(training)
    yield from ended_early(training)


def not_finite(training: Training) -> Iterator[Finding]:
    """Losses that are NaN or infinite."""
    for name, curve in {**training.losses, "validation": training.validation}.items():
        epochs = [epoch for epoch, value in curve.items() if not math.isfinite(value)]
        if epochs:
            yield Finding(
                f"{training.name}: the {name} loss is not finite in epoch {epochs[0]}",
                "lower the learning rate, and look at the labels with mace-weak check",
            )


def risen(training: Training) -> Iterator[Finding]:
    """A training that ended worse than it began."""
    curve = training.losses[SUPERVISED]
    begin, end = first(curve), last(curve)
    if begin is not None and end is not None and end > begin:
        yield Finding(
            f"{training.name}: the supervised loss rose from {begin:.4g} to {end:.4g}",
            "lower the learning rate, or the weight of the weak terms",
        )


def idle(training: Training) -> Iterator[Finding]:
    """Weak terms that are in the log and do nothing."""
    for term in training.weak:
        if not any(value > 0 for value in training.losses[term].values()):
            yield Finding(
                f"{training.name}: the {term} term was never above 0",
                f"give it a weight (weak_{term}_weight), and look at its schedule",
            )


def ended_early(training: Training) -> Iterator[Finding]:
    """A training with fewer epochs than it was to have, and no rule that ended it."""
    if training.planned and training.epochs < training.planned and not training.may_stop:
        yield Finding(
            f"{training.name}: {training.epochs} of {training.planned} epochs are in its log",
            "if it does not run any more: the end of its own log tells why; start it again from "
            "its checkpoint",
        )


def save(figure: Figure, out: Path) -> Path:
    """Write the picture; returns where it is.

    Raises:
        WeakLossError: if there is no such format of pictures.
    """
    path = out if out.suffix and not out.is_dir() else out / PICTURE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        raise WeakLossError(f"'{path}' cannot be written ({error}): name a .png or .pdf") from error
    return path
