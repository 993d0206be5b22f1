"""Curves of several trainings side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from mace_weak.command.reporting.training import ENERGY, FORCES, SUPERVISED, Curve, Training
from mace_weak.losses import SPATIAL, TAYLOR

COLUMNS = 4  # more trainings go into rows below
LOSSES = {
    SUPERVISED: ("supervised", "#1f78b4"),
    TAYLOR: ("weak: Taylor", "#d95f02"),
    SPATIAL: ("weak: spatial", "#7570b3"),
}
ERRORS = {
    ENERGY: ("validation: energy, meV/atom", "#1b9e77"),
    FORCES: ("validation: forces, meV/Å", "#e7298a"),
}
BEST = ("best validation", "0.4")
SMALLEST = 0.01  # of the supervised loss: below it a weak term does nothing
FEW = 10  # points, which are shown as such


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
    """Write 20 for 2·10¹."""
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
    """The end of a long name, which tells trainings apart."""
    return name if len(name) <= width else f"…{name[1 - width :]}"
