"""The error of models trained on structures that ``mace-weak select`` chose, and on random ones.

    python -m recipes.selection.run

For each seed a random half of the training file is the pool. The command sees it without labels;
what it chooses gets its energies, and the benchmark's foundation model is fine-tuned on them by
``mace-weak finetune``. What was trained before is kept, so that a run can be stopped and called
again, and the table has the rows of earlier calls too.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mace_weak.tangent.picking import NOISE
from recipes.benchmark.benchmark_cases import HERE as BENCHMARK
from recipes.benchmark.benchmark_cases import Plan
from recipes.benchmark.benchmark_mace import PACKAGES
from recipes.benchmark.benchmark_runner import ROOT, write_csv
from recipes.quickstart import processes
from recipes.quickstart.arguments import add_training_arguments
from recipes.quickstart.tables import markdown_table, with_table, with_versions
from recipes.selection.selection_runner import FORCES, RANDOM, Choice, Demonstration

HERE = Path(__file__).parent
METHODS = (RANDOM, FORCES)
SETTINGS = ("data", "structures", "method", "seed")
Row = dict[str, Any]
HEADER = (
    "data", "energies", "method", "energy, meV/atom", "forces, meV/Å", "forces / random's",
    "left open, by the prior", "forces / foundation model's",
)  # fmt: skip


def table(rows: Sequence[Row], foundations: Mapping[str, Mapping[str, float]]) -> str:
    """Means and standard deviations over the seeds; ratios are taken within each seed."""
    lines = []
    for (data, count), of_data in pd.DataFrame(rows).groupby(["data", "structures"], sort=False):
        start = foundations[str(data)]["force_rmse"]
        by_method = {
            name: rows.set_index("seed") for name, rows in of_data.groupby("method", sort=False)
        }
        for method, found in by_method.items():
            force = found["force_rmse"]
            cells = [
                cell(found["energy_rmse"], 1),
                cell(force, 0),
                cell(force / by_method[RANDOM]["force_rmse"], 2),
                cell(found["left"], 2) if found["left"].notna().any() else "",
                cell(force / start, 2),
            ]
            lines.append([str(data), str(count), str(method), *cells])
    return markdown_table(HEADER, lines)


def summary(rows: Sequence[Row]) -> str:
    """The geometric means over the data of the force error over random choices'."""
    seeds = pd.DataFrame(rows).pivot(
        index=["data", "structures", "seed"], columns="method", values="force_rmse"
    )
    ratios = (seeds[FORCES] / seeds[RANDOM]).groupby(["data", "structures"]).mean()
    means = np.exp(np.log(ratios).groupby("structures").mean())
    listed = ", ".join(f"{mean:.2f} with {count} energies" for count, mean in means.items())
    return f"Forces over random's, geometric mean over the data: {listed}."


def with_earlier(path: Path, rows: Sequence[Row], origin: Mapping[str, str]) -> list[Row]:
    """Rows of this call, and those of the same versions and defaults that one wrote to ``path``."""
    text = dict.fromkeys(origin, str)
    earlier = pd.read_csv(path, dtype=text).to_dict("records") if path.is_file() else []
    alike = [row for row in earlier if all(row.get(key) == origin[key] for key in origin)]
    found: dict[tuple[Any, ...], Row] = {}
    for row in (*alike, *({**row, **origin} for row in rows)):
        found[tuple(row[name] for name in SETTINGS)] = row
    return sorted(found.values(), key=place)


def place(row: Row) -> tuple[Any, ...]:
    """Where a row stands in the table."""
    return row["data"], row["structures"], METHODS.index(row["method"]), row["seed"]


def cell(values: pd.Series, digits: int) -> str:
    """Mean and spread."""
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", nargs="+",
        default=["rmd17_ethanol", "h2co", "ammonia", "molecules_two_levels"],
    )  # fmt: skip
    parser.add_argument("--n", nargs="+", type=int, default=[20], help="structures to choose")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--cases", type=Path, default=BENCHMARK / "cases.yaml",
        help="what --data and the foundation models are",
    )  # fmt: skip
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared" / "data",
        help="folder of shared data; data that are not there are left out",
    )  # fmt: skip
    parser.add_argument(
        "--foundations", type=Path, default=BENCHMARK / "results",
        help="folder of the foundation models, which are trained there if it has none",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--readme", action="store_true", help="the table into the README")
    add_training_arguments(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    demonstration = Demonstration(Plan.read(options.cases), options)
    present = []
    for name in options.data:
        absent = demonstration.absent(name)
        if absent:
            print(f"Left out: {name}: {absent[0]} is not there")
        else:
            present.append(name)
    if not present:
        raise SystemExit("there are no data: name their folder by --shared")
    foundations = {name: demonstration.prepare(name) for name in present}
    settings = itertools.product(present, options.n, METHODS, options.seeds)
    choices = [Choice(*values) for values in settings]
    file = options.out / "selection.csv"
    rows = list(demonstration.rows(choices))
    defaults = processes.defaults_of(processes.CLOSED_FORM, on_labels=True)
    defaults += f"; chosen with a noise of {NOISE}"
    origin = {**demonstration.benchmark.versions(), "defaults": defaults}
    rows = with_earlier(file, rows, origin)
    write_csv(file, rows)
    for name in {row["data"] for row in rows} - set(foundations):
        foundations[name] = demonstration.prepare(name)
    text = with_versions(f"{table(rows, foundations)}\n\n{summary(rows)}", PACKAGES)
    print(f"\nErrors of unseen structures:\n\n{text}\n\nResults: {file}")
    if options.readme:
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(), "selection", text))


if __name__ == "__main__":
    main()
