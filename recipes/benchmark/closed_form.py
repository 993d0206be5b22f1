"""Fine-tuning in closed form beside plain and anchored training, each of these at its own best.

    python -m recipes.benchmark.closed_form --readme

A table of the published rows: of ``mace-weak finetune`` those of the sets ``closed_form…``
(``make benchmark SET=closed_form``), of the trainings those of all other sets with the same data
and number of structures. The learning rate of a training is that of the lowest error on unseen
forces, which a user does not have; finetune has none to choose.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from recipes.benchmark.plan_arguments import README
from recipes.benchmark.report_tables import FOUNDATION, PLAIN, averaged, ratio, trained, with_spread
from recipes.quickstart.tables import markdown_table, with_table

HERE = Path(__file__).parent
PUBLISHED = HERE / "published"
TOP = HERE.parents[1] / "README.md"
SETS = "closed_form"
CLOSED, ANCHORED = "finetune", "weak_taylor"
LONGEST = 800  # steps of the trainings that are compared with
MARKER = "closed form"
SHOWN = {"mace": (README, TOP), "nequip": (README,)}  # READMEs with the table of a host
HEADER = (
    "data", "energies", "foundation model", "plain", "weak_taylor", "finetune", "expected",
    "finetune / plain", "finetune / weak_taylor",
)  # fmt: skip


def published(host: str) -> pd.DataFrame:
    """All rows of a host, those of one training once."""
    files = [path for path in sorted(PUBLISHED.glob("*.csv")) if host_of(path) == host]
    rows = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
    wanted = rows["method"].isin([FOUNDATION, PLAIN, ANCHORED, CLOSED])
    names = ["data", "method", "structures", "lr", "steps", "seed"]
    return rows[wanted & ~(rows["steps"] > LONGEST)].drop_duplicates(names, keep="last")


def host_of(path: Path) -> str:
    """The host of a file of rows."""
    return "nequip" if path.stem.startswith("nequip_") else "mace"


def at_best(rows: pd.DataFrame) -> pd.Series:
    """Force errors by seed, at the learning rate and number of steps of the lowest mean."""
    means = averaged(rows)
    best = means.loc[means["force_rmse"].idxmin()]
    own = rows[(rows["lr"] == best["lr"]) & (rows["steps"] == best["steps"])]
    return own.set_index("seed")["force_rmse"]


def lines(rows: pd.DataFrame) -> list[list[str]]:
    """A line for each data set and number of structures that finetune was run on."""
    start = rows[rows["method"] == FOUNDATION].set_index("data")["force_rmse"]
    found = []
    done = trained(rows)
    for (data, structures), own in done[done["method"] == CLOSED].groupby(
        ["data", "structures"], sort=False
    ):
        alike = done[(done["data"] == data) & (done["structures"] == structures)]
        by_method = {name: at_best(part) for name, part in alike.groupby("method") if len(part)}
        taken = own["closed_form"].astype(bool)
        expected = own.loc[taken, "expected_force_rmse"]
        note = "" if taken.all() else f" ({(~taken).sum()} of {len(own)} by training)"
        errors = [
            with_spread(by_method[name].mean(), by_method[name].std()) if name in by_method else ""
            for name in (PLAIN, ANCHORED, CLOSED)
        ]
        ratios = [
            ratio(by_method[CLOSED], by_method[name]) if name in by_method else ""
            for name in (PLAIN, ANCHORED)
        ]
        foundation = start.get(data)
        first = foundation if isinstance(foundation, float) else foundation.iloc[0]
        errors[2] = f"**{errors[2]}**{note}"
        bar = f"{expected.mean():.0f}" if len(expected) else ""
        found.append([data, f"{structures}", f"{first:.0f}", *errors, bar, *ratios])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="the table into the READMEs")
    options = parser.parse_args()
    for host, readmes in SHOWN.items():
        table = markdown_table(HEADER, lines(published(host)))
        print(f"{host}:\n\n{table}\n")
        for readme in readmes if options.readme else ():
            readme.write_text(with_table(readme.read_text(), f"{host} {MARKER}", table))


if __name__ == "__main__":
    main()
