"""Tables and figures of the published results, those that the READMEs show.

    python -m recipes.benchmark.report

Reads ``published/*.csv``, which ``run.py SET --csv`` wrote. A cell is the mean over the seeds of
the force error of unseen structures (meV/Å), with the standard deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import TABLEAU_COLORS
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from recipes.benchmark.benchmark_cases import HERE
from recipes.benchmark.report_tables import (
    ACROSS,
    CLOSED,
    FOUNDATION,
    PLAIN,
    at_best_rate,
    averaged,
    dynamics_table,
    foundation_rows,
    frequencies_table,
    matrix_table,
    table,
    trained,
)
from recipes.quickstart.tables import with_table

PUBLISHED = HERE / "published"
FIGURES = HERE / "figures"
READMES = (HERE / "README.md", HERE.parent / "sparse_data" / "README.md")
PACKAGES = ("mace-weak", "mace-torch", "nequip", "torch")
TIMES = (0.25, 0.5, 1, 2, 4)  # ticks
PLAIN_STEPS = 800  # of the trainings that are compared with


@dataclass(frozen=True)
class View:
    """Rows of several sets that answer one question, in the order of ``data`` and ``methods``."""

    sets: tuple[str, ...]
    data: tuple[str, ...]
    methods: tuple[str, ...]
    structures: tuple[int, ...] = (50,)

    def rows(self) -> pd.DataFrame:
        files = [PUBLISHED / f"{name}.csv" for name in self.sets]
        rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
        wanted = rows["method"].isin(self.methods) & rows["structures"].isin(self.structures)
        rows = rows[rows["data"].isin(self.data) & (wanted | (rows["method"] == FOUNDATION))]
        same = ["data", "method", "structures", "lr", "steps", "seed"]
        order = {name: place for place, name in enumerate((*self.data, FOUNDATION, *self.methods))}
        return rows.drop_duplicates(same).sort_values(
            ["data", "method"], key=lambda names: names.map(order), kind="stable"
        )


NUMBERS = View(
    (
        "structures_ethanol",
        "structures_h2co",
        "structures_ammonia",
        "structures_methanol",
        "structures_with_forces",
        "learning_rates",
        "molecules",
        "upper_bound",
        "closed_form",
        "closed_form_molecules",
    ),
    ("rmd17_ethanol", "h2co", "ammonia", "methanol"),
    ("plain", "finetune", "energies and forces"),
    (5, 10, 20, 50, 100, 200, 500),
)
VIEWS = {
    "alternatives": View(
        (
            "learning_rates",
            "alternatives",
            "long",
            "lbfgs",
            "descriptor_learning",
            "upper_bound",
            "closed_form",
        ),
        ("rmd17_ethanol", "h2co", "ammonia"),
        (
            "plain",
            "plain, MACE's guide",
            "plain, 8 times as long",
            "L-BFGS",
            "LoRA",
            "frozen layers",
            "replay, pseudolabels",
            "Gaussian process on descriptors",
            "weak_taylor",
            "finetune",
            "energies and forces",
        ),
    ),
    "one with forces": View(
        (
            "learning_rates",
            "silicon",
            "silicon_two_levels",
            "one_with_forces",
            "one_cell_with_forces",
            "closed_form",
            "closed_form_one_with_forces",
            "one_structure",
            "closed_form_one_structure",
            "upper_bound",
        ),
        ("rmd17_ethanol", "h2co", "silicon", "silicon_two_levels"),
        (
            "plain",
            "plain, forces of one",
            "plain, one structure",
            "finetune",
            "finetune, forces of one",
            "finetune, one structure",
            "energies and forces",
        ),
    ),
    "two levels": View(
        ("two_levels", "two_heads", "closed_form"),
        ("ethanol_two_levels", "h2co_two_levels"),
        ("plain", "two heads", "weak_taylor", "finetune"),
    ),
    "losses": View(
        ("losses", "no_anchor", "many_molecules", "silicon_two_levels"),
        ("rmd17_ethanol", "h2co", "molecules_two_levels", "silicon_two_levels"),
        (
            "plain",
            "weak_taylor",
            "weak_spatial",
            "weak_piwsl",
            "weak_taylor, order 0",
            "weak_taylor, order 1",
            "weak_taylor, no anchor",
        ),
    ),
    "from scratch": View(
        ("from_scratch",),
        ("rmd17_ethanol", "h2co"),
        (
            "energies, from scratch",
            "weak_taylor, from scratch",
            "weak_taylor, order 0, from scratch, anchored",
            "energies and forces, from scratch",
            "energies and forces and weak_taylor, from scratch",
        ),
    ),
}


def draw(rows: pd.DataFrame, across: str, path: Path) -> None:
    """Force errors against ``across``, a panel for each data, a line for each method.

    Where another setting than the learning rate is varied, at the best learning rate of each.
    """
    means = averaged(trained(rows))
    if across != "lr":
        means = at_best_rate(means)
    start = foundation_rows(rows)["force_rmse"]
    names = list(dict.fromkeys(means["data"]))
    colors = dict(zip(dict.fromkeys(means["method"]), TABLEAU_COLORS, strict=False))
    columns = 2 if len(names) == 4 else len(names)
    lines = len(names) // columns
    size = (1.5 + 4.0 * columns, 0.2 + 3.6 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for axis, data in zip(axes.flat, names, strict=True):
        panel(axis, means[means["data"] == data], across, colors)
        axis.axhline(start[data], color="0.5", linestyle=":", label="foundation model")
        axis.set_title(data)
        axis.set_xlabel(ACROSS[across])
    for axis in axes[:, 0]:
        axis.set_ylabel("force RMSE, meV/Å")
    entries: dict[str, Artist] = {}  # a method may lack in some panels
    for axis in axes.flat:
        handles, labels = axis.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    axes[0][-1].legend(
        entries.values(), entries, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5)
    )
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def draw_wall_clock(rows: pd.DataFrame, path: Path) -> None:
    """Force error against seconds, in units of the plain training of 800 steps of the same data.

    A line for plain training of growing length, a point for the closed form, a panel for each data.
    """
    done, start = trained(rows), foundation_rows(rows)["force_rmse"]
    names = list(dict.fromkeys(done["data"]))
    figure, axes = plt.subplots(1, len(names), figsize=(1.5 + 3.2 * len(names), 3.2), squeeze=False)
    for axis, data in zip(axes[0], names, strict=True):
        of_data = done[done["data"] == data]
        plain, closed = (of_data[of_data["method"] == name] for name in (PLAIN, CLOSED))
        unit = plain.loc[plain["steps"] == PLAIN_STEPS, "seconds"].item()
        for line, marker, label in ((plain, "o-", PLAIN), (closed, "s", CLOSED)):
            axis.plot(line["seconds"] / unit, line["force_rmse"], marker, ms=5, label=label)
        axis.axhline(start[data], color="0.5", linestyle=":", label="foundation model")
        axis.set(title=data, xlabel="time / that of 800 steps", xscale="log", yscale="log")
        axis.set_xticks(TIMES, [f"{value:g}" for value in TIMES])
        axis.xaxis.set_minor_locator(NullLocator())
        plain_numbers(axis.yaxis)
    axes[0][0].set_ylabel("force RMSE, meV/Å")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def panel(axis: Axes, means: pd.DataFrame, across: str, colors: Mapping[str, Any]) -> None:
    for method, points in means.groupby("method", sort=False):
        line = points.sort_values(across)
        axis.errorbar(
            line[across], line["force_rmse"], yerr=line["force_rmse_std"], marker="o", markersize=4,
            capsize=2, label=str(method), color=colors[str(method)],
        )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    values = sorted(means[across].unique())
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set_yscale("log")
    plain_numbers(axis.yaxis)


def plain_numbers(axis: Axis) -> None:
    """Of an axis of less than a decade."""
    axis.set_minor_locator(LogLocator(subs=(1.5, 2, 3, 4, 6, 8)))
    for which in (axis.set_major_formatter, axis.set_minor_formatter):
        which(StrMethodFormatter("{x:.0f}"))


def versions_of(rows: pd.DataFrame) -> str:
    """The versions that gave the rows."""
    found = [
        f"{package} {value}"
        for package in PACKAGES
        if package in rows
        for value in rows[package].dropna().unique()
    ]
    return ", ".join(found)


def texts() -> Iterator[tuple[str, str]]:
    """The markers in the READMEs, and the tables that belong there."""
    rates = pd.read_csv(PUBLISHED / "learning_rates.csv")
    files = [PUBLISHED / f"{name}.csv" for name in ("dynamics", "closed_form_dynamics")]
    runs = pd.concat(map(pd.read_csv, files), ignore_index=True)
    yield "learning_rates force errors", f"{table(rates, 'lr')}\n\n{versions_of(rates)}."
    yield "dynamics", f"{dynamics_table(runs)}\n\n{versions_of(runs)}."
    vibrations = pd.read_csv(PUBLISHED / "frequencies.csv")
    yield "frequencies", f"{frequencies_table(vibrations)}\n\n{versions_of(vibrations)}."
    for name, view in VIEWS.items():
        rows = view.rows()
        yield f"{name} at best", f"{matrix_table(rows)}\n\n{versions_of(rows)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    draw(pd.read_csv(PUBLISHED / "learning_rates.csv"), "lr", FIGURES / "learning_rates.png")
    draw(NUMBERS.rows(), "structures", FIGURES / "structures.png")
    draw_wall_clock(pd.read_csv(PUBLISHED / "wall_clock.csv"), FIGURES / "wall_clock.png")
    for marker, text in texts():
        for readme in READMES:
            readme.write_text(with_table(readme.read_text(), marker, text))


if __name__ == "__main__":
    main()
