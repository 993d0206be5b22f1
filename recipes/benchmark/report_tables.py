"""What the rows of results come to: means, ratios to plain fine-tuning, and tables of them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from recipes.quickstart.tables import markdown_table

# the columns that a set may vary, and the labels of their axes
ACROSS = {
    "lr": "learning rate",
    "structures": "structures with an energy",
}
FOUNDATION = "foundation"
PLAIN = "plain"
CLOSED = "finetune"
MEASURED = ("energy_rmse", "force_rmse", "slope", "seconds")
SEEDS = 3  # of published rows; fewer are said
NOTHING = pd.Series(dtype=float)
SETTINGS = ["data", "method", "structures", "lr", "steps"]


def trained(rows: pd.DataFrame) -> pd.DataFrame:
    """All but the rows of foundation models."""
    return rows[rows["method"] != FOUNDATION]


def foundation_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of foundation models, by their data."""
    return rows[rows["method"] == FOUNDATION].drop_duplicates("data").set_index("data")


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


def ratio(errors: pd.Series, plain: pd.Series) -> str:
    """Of force errors to those of the plain run on the same structures, both by their seed.

    Empty if they have no seed in common.
    """
    of_each = (errors / plain).dropna()
    return with_spread(of_each.mean(), of_each.std(), 2) if len(of_each) else ""


def errors_by_seed(rows: pd.DataFrame, across: str) -> dict[Any, pd.Series]:
    """Force errors by the seed, of each (data, method, value of ``across``).

    Where another setting than the learning rate is varied, at the best learning rate of each.
    """
    cases = trained(rows)
    if across != "lr":
        cases = cases.merge(at_best_rate(averaged(cases))[SETTINGS])
    groups = cases.groupby(["data", "method", across], sort=False)
    return {key: group.set_index("seed")["force_rmse"] for key, group in groups}


def columns_of(errors: dict[Any, pd.Series], across: str) -> tuple[list[float], list[str]]:
    """The values of ``across``, and what stands above their columns."""
    values = sorted({key[2] for key in errors}, reverse=across == "lr")
    if across == "lr":
        return values, [f"learning rate {value:g}" for value in values]
    return values, [f"{value:g} {across}" for value in values]


def table(rows: pd.DataFrame, across: str) -> str:
    """A line for each data and method, a column for each value of ``across``.

    The last column is the ratio to the plain run, each at its own best, if there is one.
    """
    start = foundation_rows(rows)["force_rmse"]
    errors = errors_by_seed(rows, across)
    values, header = columns_of(errors, across)
    lines = []
    for data in dict.fromkeys(data for data, _, _ in errors):
        lines.append([data, "foundation model", *[""] * len(values), f"{start[data]:.0f}", ""])
        by_method = {
            method: {v: errors[data, method, v] for v in values if (data, method, v) in errors}
            for method in dict.fromkeys(method for other, method, _ in errors if other == data)
        }
        best = {name: min(each.values(), key=pd.Series.mean) for name, each in by_method.items()}
        for method, each in by_method.items():
            cells = [
                with_spread(each[v].mean(), each[v].std()) if v in each else "" for v in values
            ]
            own_best = f"**{with_spread(best[method].mean(), best[method].std())}**"
            relative = ratio(best[method], best.get(PLAIN, NOTHING))
            lines.append([data, method, *cells, own_best, "1" if method == PLAIN else relative])
    return markdown_table(["data", "method", *header, "best", "best / plain's best"], lines)


def best_of_each(rows: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each (data, method) at its learning rate and steps of lowest force error."""
    groups = trained(rows).groupby(["data", "method"], sort=False)
    return {(str(data), str(method)): at_best(group) for (data, method), group in groups}


def at_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of one method at the learning rate and number of steps of the lowest force error."""
    means = averaged(rows)
    best = means.loc[means["force_rmse"].idxmin()]
    return rows[(rows["lr"] == best["lr"]) & (rows["steps"] == best["steps"])]


def matrix_table(rows: pd.DataFrame) -> str:
    """A line for each method at its best, a column for each data: force and energy errors."""
    start = foundation_rows(rows)
    best = best_of_each(rows)
    names = list(dict.fromkeys(data for data, _ in best))
    first = [errors_cell(start.loc[[data]]) for data in names]
    lines = [["foundation model", *first]]
    for method in dict.fromkeys(method for _, method in best):
        cells = [
            errors_cell(best[data, method]) if (data, method) in best else "" for data in names
        ]
        lines.append([method, *cells])
    return markdown_table(["method", *names], lines)


def errors_cell(rows: pd.DataFrame) -> str:
    """Force error (meV/Å) with its spread, and in brackets the energy error (meV/atom)."""
    forces = with_spread(rows["force_rmse"].mean(), rows["force_rmse"].std())
    seeds = rows["seed"].nunique()
    few = f"; {seeds} seed{'s' * (seeds > 1)}" if 0 < seeds < SEEDS else ""
    return f"{forces} ({rows['energy_rmse'].mean():.1f}{few})"


def frequencies_table(rows: pd.DataFrame) -> str:
    """Mean deviation of the wavenumbers (cm⁻¹), in brackets the largest, a column for each data.

    Each method at its learning rate of lowest force error.
    """
    start, best = foundation_rows(rows), best_of_each(rows)
    names = list(dict.fromkeys(data for data, _ in best))
    lines = [["foundation model", *(wavenumbers_cell(start.loc[[data]]) for data in names)]]
    for method in dict.fromkeys(method for _, method in best):
        lines.append([method, *(wavenumbers_cell(best[data, method]) for data in names)])
    return markdown_table(["method", *names], lines)


def wavenumbers_cell(rows: pd.DataFrame) -> str:
    """Mean over the seeds of the mean deviation, with its spread, and of the largest."""
    mean = with_spread(rows["wavenumber_mae"].mean(), rows["wavenumber_mae"].std())
    return f"{mean} ({rows['wavenumber_max'].mean():.0f})"


def dynamics_table(rows: pd.DataFrame) -> str:
    """How each model held at constant energy: drift, and time (ps) until a bond broke, if one did.

    The drift is the mean of its size over the seeds that held; of those that broke the first.
    """
    temperatures = [name.removeprefix("drift_") for name in rows if name.startswith("drift_")]
    lines = []
    for _, group in trained(rows).groupby(SETTINGS, sort=False):
        line = [str(group.iloc[0][name]) for name in ("data", "method", "lr")]
        for temperature in temperatures:
            failed = group[f"failed_{temperature}"].astype(bool)
            drift = group.loc[~failed, f"drift_{temperature}"].abs().mean()
            size = "" if failed.all() else f"{drift:.2g}" if drift >= 0.01 else "< 0.01"
            line += [size, held(group[f"time_{temperature}"], failed)]
        lines.append(line)
    header = [
        name
        for temperature in temperatures
        for name in (f"drift at {temperature} K, meV/atom/ps", f"{temperature} K, ps")
    ]
    return markdown_table(["data", "method", "learning rate", *header], lines)


def held(times: pd.Series, failed: pd.Series) -> str:
    """How long the models of all seeds held (ps), and when those broke that did."""
    if not failed.any():
        return f"held {times.min():.2g}"
    first = f"{times[failed].min():.2g}"
    if len(failed) == 1:
        return f"broke at {first}"
    return f"{failed.sum()} of {len(failed)} broke, first at {first}"
