"""Fine-tuning in closed form beside plain and anchored training, each of these at its own best.

    python -m recipes.benchmark.closed_form --readme

Tables and a figure of the published rows: of ``mace-weak finetune`` those of the sets
``closed_form…`` (``make benchmark SET=closed_form``), of the trainings those of all other sets with
the same data and number of structures. The learning rate of a training is that of the lowest error
on unseen forces, which a user does not have; finetune has none to choose.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import NullLocator

from recipes.benchmark.plan_arguments import README
from recipes.benchmark.report_tables import (
    CLOSED,
    FOUNDATION,
    PLAIN,
    at_best,
    foundation_rows,
    ratio,
    trained,
    with_spread,
)
from recipes.quickstart.tables import markdown_table, with_table

HERE = Path(__file__).parent
PUBLISHED = HERE / "published"
TOP = HERE.parents[1] / "README.md"
FIGURE = HERE / "figures" / "closed_form.png"
ANCHORED = "weak_taylor"
LONGEST = 800  # steps of the trainings that are compared with
# cases of the other files again, and one seed of shorter trainings
LEFT_OUT = ("closed_form_dynamics", "frequencies", "wall_clock")
USUAL = 50  # structures with an energy
SHOWN = {"mace": (README, TOP), "nequip": (README,)}  # READMEs with the table of a host
HEADER = (
    "data", "energies", "foundation model", "plain", "weak_taylor", "finetune", "expected",
    "finetune / plain", "finetune / weak_taylor",
)  # fmt: skip


def published(host: str) -> pd.DataFrame:
    """All rows of a host, those of one training once."""
    files = [
        path
        for path in sorted(PUBLISHED.glob("*.csv"))
        if host_of(path) == host and path.stem not in LEFT_OUT
    ]
    rows = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
    wanted = rows["method"].isin([FOUNDATION, PLAIN, ANCHORED, CLOSED])
    names = ["data", "method", "structures", "lr", "steps", "seed"]
    return rows[wanted & ~(rows["steps"] > LONGEST)].drop_duplicates(names, keep="last")


def host_of(path: Path) -> str:
    """The host of a file of rows."""
    return "nequip" if path.stem.startswith("nequip_") else "mace"


@dataclass(frozen=True)
class Comparison:
    """finetune on one data set and number of structures, beside the trainings at their best.

    Force errors in meV/Å: ``errors`` of each method by the seed, ``expected`` those that the
    posterior gave where the closed form was taken; in ``by_training`` seeds it was not.
    """

    data: str
    structures: int
    foundation: float
    errors: Mapping[str, pd.Series]
    expected: pd.Series
    by_training: int


def comparisons(rows: pd.DataFrame) -> Iterator[Comparison]:
    """Those of all data that finetune and plain training were run on."""
    start, done = foundation_rows(rows)["force_rmse"], trained(rows)
    closed = done[done["method"] == CLOSED]
    for (data, structures), rows_of_data in closed.groupby(["data", "structures"], sort=False):
        alike = done[(done["data"] == data) & (done["structures"] == structures)]
        errors = {
            str(name): at_best(part).set_index("seed")["force_rmse"]
            for name, part in alike.groupby("method")
        }
        taken = rows_of_data["closed_form"].astype(bool)
        expected = rows_of_data.loc[taken, "expected_force_rmse"]
        if PLAIN in errors:
            yield Comparison(
                str(data), int(structures), start[data], errors, expected, int((~taken).sum())
            )


def usual(rows: pd.DataFrame) -> list[Comparison]:
    """Those with the usual number of structures and both trainings."""
    return [
        each for each in comparisons(rows) if each.structures == USUAL and ANCHORED in each.errors
    ]


def lines(rows: pd.DataFrame) -> list[list[str]]:
    """A line for each comparison with the usual number of structures."""
    found = []
    for each in usual(rows):
        plain, anchored, closed = (each.errors[name] for name in (PLAIN, ANCHORED, CLOSED))
        cells = [with_spread(errors.mean(), errors.std()) for errors in (plain, anchored, closed)]
        cells[2] = f"**{cells[2]}**"
        if each.by_training:
            cells[2] += f" ({each.by_training} of {len(closed)} by training)"
        expected = f"{each.expected.mean():.0f}" if len(each.expected) else ""
        found.append(
            [each.data, f"{each.structures}", f"{each.foundation:.0f}", *cells, expected,
             ratio(closed, plain), ratio(closed, anchored)]
        )  # fmt: skip
    return found


def numbers_table(rows: pd.DataFrame) -> str:
    """Errors of finetune, and over those of plain training: a line for each data, by structures."""
    found = {(each.data, each.structures): each for each in comparisons(rows)}
    counted = Counter(data for data, _ in found)
    several = [data for data, count in counted.items() if count > 1]
    values = sorted({structures for data, structures in found if data in several})
    cells = [
        [data, *(number_cell(found.get((data, structures))) for structures in values)]
        for data in several
    ]
    return markdown_table(["data", *(f"{value} energies" for value in values)], cells)


def number_cell(each: Comparison | None) -> str:
    """Force error with its spread, in brackets over that of plain training."""
    if each is None:
        return ""
    closed = each.errors[CLOSED]
    return f"{with_spread(closed.mean(), closed.std())} ({ratio(closed, each.errors[PLAIN])})"


def tables(host: str, rows: pd.DataFrame) -> dict[str, str]:
    """Those of a host by their marker in the READMEs; only MACE's count the energies."""
    found = {f"{host} closed form": markdown_table(HEADER, lines(rows))}
    return found | ({"numbers": numbers_table(rows)} if host == "mace" else {})


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Force errors over those of plain fine-tuning at its best, a line for each comparison."""
    shown = usual(rows)[::-1]  # the first on top
    figure, axis = plt.subplots(figsize=(7.0, 0.8 + 0.32 * len(shown)))
    for place, each in enumerate(shown):
        plain = each.errors[PLAIN]
        axis.plot(each.foundation / plain.mean(), place, "|", color="0.4", ms=12)
        for shift, method, color in ((0.15, ANCHORED, "tab:blue"), (-0.15, CLOSED, "tab:orange")):
            ratios = (each.errors[method] / plain).dropna()
            axis.errorbar(
                ratios.mean(), place + shift, xerr=ratios.std(), fmt="o", color=color, capsize=2
            )
        expected = each.expected.mean() / plain.mean()
        axis.plot(expected, place - 0.15, "D", color="tab:orange", mfc="none")
    for marker, color, label in (
        ("|", "0.4", "foundation model"),
        ("o", "tab:blue", ANCHORED),
        ("o", "tab:orange", CLOSED),
        ("D", "tab:orange", "its expected error"),
    ):
        axis.plot([], [], marker, color=color, mfc="none" if marker == "D" else color, label=label)
    axis.axvline(1.0, color="0.8", zorder=0)
    axis.set_yticks(range(len(shown)), [each.data for each in shown])
    axis.set_xscale("log")
    axis.set_xticks([0.2, 0.3, 0.5, 0.7, 1, 2, 4], ["0.2", "0.3", "0.5", "0.7", "1", "2", "4"])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("force error / that of plain fine-tuning at its best learning rate")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="the table into the READMEs")
    options = parser.parse_args()
    for host, readmes in SHOWN.items():
        rows = published(host)
        for marker, table in tables(host, rows).items():
            print(f"{marker}:\n\n{table}\n")
            for readme in readmes if options.readme else ():
                readme.write_text(with_table(readme.read_text(), marker, table))
        if host == "mace" and options.readme:
            draw(rows, FIGURE)


if __name__ == "__main__":
    main()
