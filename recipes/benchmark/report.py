"""Tables and figures of the published results: into the READMEs, and into ``figures``.

    export PYTHONPATH=recipes/quickstart
    python recipes/benchmark/report.py

Reads ``published/*.csv``, which ``run.py SET --csv`` wrote. A cell is the mean over the seeds of
the force error of unseen structures (meV/Å), with the standard deviation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from benchmark_cases import HERE
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from tables import markdown_table, with_table

PUBLISHED = HERE / "published"
FIGURES = HERE / "figures"
READMES = (HERE / "README.md", HERE.parent / "sparse_data" / "README.md")
# the column that a set varies beside the learning rate, and the label of its axis
ACROSS = {
    "lr": "learning rate",
    "structures": "structures with an energy",
    "steps": "steps",
}
FOUNDATION = "foundation"
PACKAGES = ("mace-weak", "mace-torch", "nequip", "torch")
PLAIN = "plain"
MEASURED = ("energy_rmse", "force_rmse", "slope", "stress_rmse", "seconds")
SETTINGS = ["data", "method", "structures", "lr", "steps"]


def averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the seeds, a row for each setting."""
    measured = [name for name in MEASURED if name in rows]
    grouped = rows.groupby(SETTINGS, sort=False)[measured]
    mean, spread = grouped.mean(), grouped.std().add_suffix("_std")
    return mean.join(spread).join(grouped.size().rename("seeds")).reset_index()


def at_best_rate(means: pd.DataFrame) -> pd.DataFrame:
    """Of each setting but the learning rate, the row of lowest force error."""
    others = [name for name in SETTINGS if name != "lr"]
    best = means.groupby(others, sort=False)["force_rmse"].idxmin()
    return means.loc[best].reset_index(drop=True)


def with_spread(mean: float, spread: float, digits: int = 0) -> str:
    """Mean and standard deviation, if there is one."""
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def ratio(own: pd.Series, plain: pd.Series) -> str:
    """Of force errors to those of the plain run on the same structures; both by their seed."""
    of_each = (own / plain).dropna()
    return with_spread(of_each.mean(), of_each.std(), 2) if len(of_each) else ""


def errors_by_seed(rows: pd.DataFrame, across: str) -> dict[Any, pd.Series]:
    """Force errors by the seed, of each (data, method, value of ``across``).

    Where another setting than the learning rate is varied, at the best learning rate of each.
    """
    trained = rows[rows["method"] != FOUNDATION]
    if across != "lr":
        trained = trained.merge(at_best_rate(averaged(trained))[SETTINGS])
    groups = trained.groupby(["data", "method", across], sort=False)
    return {key: own.set_index("seed")["force_rmse"] for key, own in groups}


def columns_of(errors: dict[Any, pd.Series], across: str) -> tuple[list[float], list[str]]:
    """The values of ``across``, and what stands above their columns."""
    values = sorted({key[2] for key in errors}, reverse=across == "lr")
    return values, [f"{ACROSS[across]} {value:g}" for value in values]


def table(rows: pd.DataFrame, across: str) -> str:
    """A line for each data and method, a column for each value of ``across``.

    The last column is the ratio to the plain run, each at its own best, if there is one.
    """
    start = rows[rows["method"] == FOUNDATION].set_index("data")["force_rmse"]
    errors = errors_by_seed(rows, across)
    values, header = columns_of(errors, across)
    lines = []
    for data in dict.fromkeys(data for data, _, _ in errors):
        lines.append([data, "foundation model", *[""] * len(values), f"{start[data]:.0f}", ""])
        own = {
            method: {v: errors[data, method, v] for v in values if (data, method, v) in errors}
            for method in dict.fromkeys(method for other, method, _ in errors if other == data)
        }
        best = {name: min(each.values(), key=pd.Series.mean) for name, each in own.items()}
        for method, each in own.items():
            cells = [
                with_spread(each[v].mean(), each[v].std()) if v in each else "" for v in values
            ]
            own_best = f"**{with_spread(best[method].mean(), best[method].std())}**"
            relative = ratio(best[method], best[PLAIN]) if PLAIN in best else ""
            lines.append([data, method, *cells, own_best, "1" if method == PLAIN else relative])
    return markdown_table(["data", "method", *header, "best", "best / plain's best"], lines)


def ratio_table(rows: pd.DataFrame, across: str) -> str:
    """Ratios to the plain run with the same value of ``across``, a line for each other method."""
    errors = errors_by_seed(rows, across)
    values, header = columns_of(errors, across)
    lines = []
    for data, method in dict.fromkeys((data, method) for data, method, _ in errors):
        if method == PLAIN or not any((data, PLAIN, value) in errors for value in values):
            continue
        pairs = [(errors.get((data, method, v)), errors.get((data, PLAIN, v))) for v in values]
        cells = [ratio(*pair) if all(each is not None for each in pair) else "" for pair in pairs]
        lines.append([data, method, *cells])
    return markdown_table(["data", "method / plain", *header], lines)


def best_table(rows: pd.DataFrame) -> str:
    """All errors of each method at its own best learning rate."""
    stress = "stress_rmse" in rows
    lines = [
        [
            row["data"], row["method"], f"{row['lr']:g}", f"{row['energy_rmse']:.1f}",
            with_spread(row["force_rmse"], row["force_rmse_std"]), f"{row['slope']:.3f}",
            *([f"{row['stress_rmse']:.1f}"] if stress else []), f"{row['seeds']}",
        ]
        for _, row in at_best_rate(averaged(rows[rows["method"] != FOUNDATION])).iterrows()
    ]  # fmt: skip
    header = ["data", "method", "best lr", "energy, meV/atom", "forces, meV/Å", "force slope",
              *(["stress, meV/Å³"] if stress else []), "seeds"]  # fmt: skip
    return markdown_table(header, lines)


def dynamics_table(rows: pd.DataFrame) -> str:
    """How each model held at constant energy: drift, and time (ps) until a bond broke, if one did.

    The drift is the mean of its size over the seeds, the time that of the worst seed.
    """
    temperatures = [name.removeprefix("drift_") for name in rows if name.startswith("drift_")]
    lines = []
    for _, own in rows[rows["method"] != FOUNDATION].groupby(SETTINGS, sort=False):
        line = [str(own.iloc[0][name]) for name in ("data", "method", "lr")]
        for temperature in temperatures:
            drift, time = own[f"drift_{temperature}"].abs().mean(), own[f"time_{temperature}"].min()
            failed = own[f"failed_{temperature}"].any()
            line += [f"{drift:.2g}", f"broke at {time:.2g}" if failed else f"held {time:.2g}"]
        lines.append(line)
    header = [
        name
        for temperature in temperatures
        for name in (f"drift at {temperature} K, meV/atom/ps", f"{temperature} K, ps")
    ]
    return markdown_table(["data", "method", "learning rate", *header], lines)


def draw(rows: pd.DataFrame, across: str, path: Path, *, at_best: bool, value: str) -> None:
    """``value`` against ``across``, a panel for each data, a line for each method."""
    means = averaged(rows[rows["method"] != FOUNDATION])
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
    if across != "seconds":
        values = sorted(means[across].unique())
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.xaxis.set_minor_locator(NullLocator())
    if value == "force_rmse":
        axis.set_yscale("log")
        axis.yaxis.set_minor_locator(LogLocator(subs=(1.5, 2, 3, 4, 6, 8)))
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(StrMethodFormatter("{x:.0f}"))
    else:
        axis.axhline(1.0, color="0.8", zorder=0)


def report(path: Path) -> dict[str, str]:
    """Draw the figures of one table of results; returns what READMEs show of it, by its marker."""
    rows = pd.read_csv(path)
    trained = rows[rows["method"] != FOUNDATION]
    across = next((name for name in ("steps", "structures") if trained[name].nunique() > 1), "lr")
    name = path.stem
    draw(rows, across, FIGURES / f"{name}.png", at_best=across != "lr", value="force_rmse")
    draw(rows, across, FIGURES / f"{name}_slope.png", at_best=across != "lr", value="slope")
    if across == "steps":
        draw(rows, "seconds", FIGURES / f"{name}_seconds.png", at_best=True, value="force_rmse")
    packages = [column for column in rows.columns if column in PACKAGES]
    versions = ", ".join(f"{package} {rows[package].iloc[0]}" for package in packages)
    shown = {
        "force errors": table(rows, across),
        "ratios": ratio_table(rows, across),
        "best": best_table(rows),
        **(
            {"dynamics": dynamics_table(rows)}
            if rows.columns.str.startswith("drift_").any()
            else {}
        ),
    }
    return {f"{name} {kind}": f"{text}\n\n{versions}." for kind, text in shown.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    for path in sorted(PUBLISHED.glob("*.csv")):
        for marker, text in report(path).items():
            for readme in READMES:
                readme.write_text(with_table(readme.read_text(), marker, text))


if __name__ == "__main__":
    main()
