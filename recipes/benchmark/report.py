"""Tables and figures of the published results, those that the READMEs show.

    python -m recipes.benchmark.report

Reads ``published/*.csv``, which ``run.py SET --csv`` wrote. A cell is the mean over the seeds of
the force error of unseen structures (meV/Å), with the standard deviation.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from recipes.benchmark.benchmark_cases import HERE
from recipes.benchmark.report_tables import (
    ACROSS,
    FOUNDATION,
    at_best_rate,
    averaged,
    best_table,
    dynamics_table,
    ratio_table,
    table,
    trained,
)
from recipes.quickstart.tables import with_table

PUBLISHED = HERE / "published"
FIGURES = HERE / "figures"
READMES = (HERE / "README.md", HERE.parent / "sparse_data" / "README.md")
PACKAGES = ("mace-weak", "mace-torch", "nequip", "torch")


def draw(rows: pd.DataFrame, across: str, path: Path, *, at_best: bool, value: str) -> None:
    """``value`` against ``across``, a panel for each data, a line for each method."""
    means = averaged(trained(rows))
    if at_best:
        means = at_best_rate(means)
    names = list(dict.fromkeys(means["data"]))
    methods = dict.fromkeys(means["method"])
    shades = plt.get_cmap("tab20").colors  # each hue twice, the second light
    colors = dict(zip(methods, (*shades[::2], *shades[1::2]), strict=False))
    figure, axes = plt.subplots(1, len(names), figsize=(1.5 + 4.0 * len(names), 3.8), squeeze=False)
    for axis, data in zip(axes[0], names, strict=True):
        start = rows[(rows["method"] == FOUNDATION) & (rows["data"] == data)][value]
        panel(axis, means[means["data"] == data], across, value, colors)
        axis.axhline(float(start.iloc[0]), color="0.5", linestyle=":", label="foundation model")
        axis.set_title(data)
        axis.set_xlabel({"seconds": "seconds of training", **ACROSS}[across])
    axes[0][0].set_ylabel({"force_rmse": "force RMSE, meV/Å", "slope": "force slope"}[value])
    entries: dict[str, Artist] = {}  # a method may lack in some panels
    for axis in axes[0]:
        handles, labels = axis.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    axes[0][-1].legend(
        entries.values(), entries, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5)
    )
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def panel(axis: Axes, means: pd.DataFrame, across: str, value: str, colors: dict[str, Any]) -> None:
    for method, own in means.groupby("method", sort=False):
        line = own.sort_values(across)
        axis.errorbar(
            line[across], line[value], yerr=line[f"{value}_std"], marker="o", markersize=4,
            capsize=2, label=str(method), color=colors[str(method)],
        )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    if across == "seconds":
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    else:
        values = sorted(means[across].unique())
        axis.set_xticks(values, [f"{value:g}" for value in values])
    if value == "force_rmse":
        axis.set_yscale("log")
        axis.yaxis.set_minor_locator(LogLocator(subs=(1.5, 2, 3, 4, 6, 8)))
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(StrMethodFormatter("{x:.0f}"))
    else:
        axis.axhline(1.0, color="0.8", zorder=0)


def report(path: Path, figures: set[str]) -> dict[str, str]:
    """Draw those of ``figures`` that are of one table of results.

    Returns what READMEs show of it, by its marker.
    """
    rows = pd.read_csv(path)
    cases = trained(rows)
    across = next((name for name in ("steps", "structures") if cases[name].nunique() > 1), "lr")
    name = path.stem
    drawn = {
        name: (across, "force_rmse"),
        f"{name}_slope": (across, "slope"),
        f"{name}_seconds": ("seconds", "force_rmse"),
    }
    for figure in figures & drawn.keys():
        against, value = drawn[figure]
        draw(rows, against, FIGURES / f"{figure}.png", at_best=across != "lr", value=value)
    packages = [column for column in rows.columns if column in PACKAGES]
    versions = ", ".join(f"{package} {rows[package].iloc[0]}" for package in packages)
    shown = {
        "force errors": table(rows, across),
        "ratios": ratio_table(rows, across),
        "best": best_table(rows, across),
        **(
            {"dynamics": dynamics_table(rows)}
            if rows.columns.str.startswith("drift_").any()
            else {}
        ),
    }
    return {f"{name} {kind}": f"{text}\n\n{versions}." for kind, text in shown.items()}


def shown_figures() -> set[str]:
    """Names of the figures that the READMEs show."""
    return {
        name for readme in READMES for name in re.findall(r"figures/(\w+)\.png", readme.read_text())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    figures = shown_figures()
    for path in sorted(PUBLISHED.glob("*.csv")):
        for marker, text in report(path, figures).items():
            for readme in READMES:
                readme.write_text(with_table(readme.read_text(), marker, text))


if __name__ == "__main__":
    main()
