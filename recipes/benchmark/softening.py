"""What one labelled structure with forces does to the foundation models: ``mace-weak soften``.

    export PYTHONPATH=recipes/quickstart
    python recipes/benchmark/softening.py --readme

For each data set with forces: the command fine-tunes the foundation model on the structure of
highest energy of the unseen ones, and tells the errors on the others before and after.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import benchmark_mace
import processes
from arguments import add_training_arguments
from benchmark_cases import HERE, Plan
from benchmark_data import frames_of, write_named
from benchmark_runner import ROOT
from tables import markdown_table, with_table, with_versions

COLUMNS = ("forces, meV/Å", "force slope", "±", "energy beside its zero, meV/atom")


def rows(plan: Plan, name: str, options: argparse.Namespace) -> Iterator[list[str]]:
    """A line before and one after."""
    data, out = plan.data[name], options.out.resolve()
    frames = frames_of(data.test, options.shared, forces_needed=True)
    file = write_named(out / "data", f"{name}-test", frames)
    foundation = options.foundation or benchmark_mace.train_foundation(
        out, data.foundation, plan.foundations[data.foundation], device=options.device
    )
    folder = out / f"softened-{name}"
    shutil.rmtree(folder, ignore_errors=True)  # the command writes to a new folder
    result = processes.mace_weak(
        "soften", foundation, file, f"--out={folder}", f"--device={options.device}"
    )
    (others,) = (table for title, table in result["tables"].items() if "not trained on" in title)
    for row in others:
        force, slope, spread, energy = (row[column] for column in COLUMNS)
        cells = [f"{force:.0f}", f"{slope:.3f} ± {spread:.3f}", f"{energy:.1f}"]
        yield [name, row["model"], str(len(frames) - 1), *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["rmd17_ethanol", "h2co", "silicon"])
    parser.add_argument("--cases", type=Path, default=HERE / "cases.yaml")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--readme", action="store_true", help="the table into the README")
    add_training_arguments(parser)
    options = parser.parse_args()
    plan = Plan.read(options.cases)
    found = [row for name in options.data for row in rows(plan, name, options)]
    header = ["data", "model", "structures", "forces, meV/Å", "force slope", "energy, meV/atom"]
    table = with_versions(markdown_table(header, found), benchmark_mace.PACKAGES)
    print(table)
    if options.readme:
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(), "softening", table))


if __name__ == "__main__":
    main()
