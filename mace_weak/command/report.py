"""``mace-weak report``: tables, findings and a figure of trainings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from mace_weak.command.logs import (
    BEFORE,
    ENERGY,
    FORCES,
    SUPERVISED,
    WEAK,
    Curve,
    Training,
    read_trainings,
)
from mace_weak.command.output import Finding, Result, Table
from mace_weak.errors import WeakLossError
from mace_weak.losses import TERMS

FIGURE = "report.png"
EARLY = 0.5  # of the training: a best validation before that is often chance
COLUMNS = 4  # more trainings go into rows below
LOSSES = {
    SUPERVISED: ("supervised", "#1f78b4"),
    **{
        name: (f"weak: {name}", colour)
        for name, colour in zip(TERMS, cycle(("#d95f02", "#7570b3", "#a6761d")))
    },
}
ERRORS = {
    ENERGY: ("validation: energy, meV/atom", "#1b9e77"),
    FORCES: ("validation: forces, meV/Å", "#e7298a"),
}
BEST = ("best validation", "0.4")
SMALLEST = 0.01  # of the supervised loss: below it a weak term does nothing
FEW = 10  # points, which are shown as such


def report_trainings(paths: Sequence[Path], out: Path) -> Result:
    """Everything about the trainings in the given folders and files; writes the figure.

    Raises:
        WeakLossError: if one has no log, or the figure cannot be written.
    """
    trainings, not_begun = read_trainings(paths)
    result = Result(
        tables=[table(trainings) for table in (run_table, loss_table, validation_table)]
    )
    for training in trainings:
        result.findings += findings(training)
        if training.superseded:
            result.notes.append(
                f"{training.name} was restarted: {training.superseded} epochs of earlier starts, "
                "repeated by later ones, are left out"
            )
    for error in not_begun:
        result.findings.append(Finding(f"left out: {error.problem}", error.mend))
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
            "if it has stopped: see the end of its log for the reason, and restart it from its "
            "checkpoint",
        )


def first(curve: Curve) -> float | None:
    """The first value of a curve, None without any."""
    return next(iter(curve.values()), None)


def last(curve: Curve) -> float | None:
    """The last value of a curve, None without any."""
    return next(reversed(list(curve.values())), None)


def side_by_side(trainings: Sequence[Training]) -> Figure:
    """Parts of the loss above the errors in validation, a column each, on common axes."""
    columns = min(COLUMNS, len(trainings))
    blocks = math.ceil(len(trainings) / columns)
    size = (1.2 + 3.2 * columns, 0.8 + 4.8 * blocks)
    figure = Figure(figsize=(max(size[0], 5.5), size[1]), layout="constrained")
    axes = figure.subplots(2 * blocks, columns, squeeze=False)
    for number, training in enumerate(trainings):
        block, column = divmod(number, columns)
        above, below = axes[2 * block, column], axes[2 * block + 1, column]
        share_axes(above, below, axes[0, 0], axes[1, 0])
        draw(above, training.losses, LOSSES)
        draw(below, training.errors, ERRORS)
        above.set_title(shortened(training.name), fontsize=9)
        below.set_xlabel("epoch")
        if training.best is not None:
            for axis in (above, below):
                axis.axvline(training.best, color=BEST[1], linewidth=0.8, linestyle=":")
        if column == 0:
            above.set_ylabel("loss, mean of an epoch")
            below.set_ylabel("RMSE in validation")
    for axis in axes.flat:
        axis.set_visible(axis.has_data())
    limit(axes[0, 0], trainings)
    plain_numbers(axes[1, 0])
    legend(figure, trainings)
    return figure


def share_axes(above: Axes, below: Axes, first_above: Axes, first_below: Axes) -> None:
    """Common axes: epochs of all panels, losses of the upper ones, errors of the lower ones."""
    for axis, first in ((above, first_above), (below, first_below)):
        if axis is not first:
            axis.sharey(first)
        if axis is not first_above:
            axis.sharex(first_above)
        axis.set_yscale("log")
        axis.grid(alpha=0.2)


def draw(axis: Axes, curves: Mapping[str, Curve], styles: Mapping[str, tuple[str, str]]) -> None:
    """The curves that exist."""
    for name, (_, colour) in styles.items():
        points = [(epoch, value) for epoch, value in curves[name].items() if value > 0]
        if points:
            marker = "o" if len(points) < FEW else None
            axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, marker=marker, ms=3)


def limit(axis: Axes, trainings: Sequence[Training]) -> None:
    """Keep weak terms that fade out from stretching the losses' axis."""
    supervised = [value for one in trainings for value in drawable(one.losses[SUPERVISED])]
    values = [
        value for one in trainings for curve in one.losses.values() for value in drawable(curve)
    ]
    if supervised:
        lowest = max(min(values), SMALLEST * min(supervised))
        axis.set_ylim(0.5 * lowest, 2 * max(values))


def plain_numbers(axis: Axes) -> None:
    """Write 20, not 2·10¹."""
    axis.yaxis.set_major_formatter(LogFormatter())
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def drawable(curve: Curve) -> Iterator[float]:
    """The values that a logarithmic axis can show."""
    yield from (value for value in curve.values() if value > 0 and math.isfinite(value))


def legend(figure: Figure, trainings: Sequence[Training]) -> None:
    """One legend for all panels, of what is in any of them."""
    shown = [
        style
        for styles, of in ((LOSSES, "losses"), (ERRORS, "errors"))
        for name, style in styles.items()
        if any(getattr(training, of)[name] for training in trainings)
    ]
    lines = [Line2D([], [], color=colour, label=label) for label, colour in shown]
    lines.append(Line2D([], [], color=BEST[1], linestyle=":", label=BEST[0]))
    figure.legend(
        handles=lines, loc="outside lower center", ncols=min(3, len(lines)), frameon=False
    )


def shortened(name: str, width: int = 38) -> str:
    """The end of a long name, where names differ."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def save(figure: Figure, out: Path) -> Path:
    """Write the figure; returns where it is.

    Raises:
        WeakLossError: if there is no such format of figures.
    """
    path = out if out.suffix and not out.is_dir() else out / FIGURE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        raise WeakLossError(f"'{path}' cannot be written ({error}): name a .png or .pdf") from error
    return path
