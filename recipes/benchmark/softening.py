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
from benchmark_runner import ROOT, Benchmark
from tables import markdown_table, with_table, with_versions

COLUMNS = ("forces, meV/Å", "force slope", "±", "energy beside its zero, meV/atom")


def rows(benchmark: Benchmark, name: str) -> Iterator[list[str]]:
    """A line before and one after."""
    data, options = benchmark.plan.data[name], benchmark.options
    frames = frames_of(data.test, options.shared, forces_needed=True)
    file = write_named(benchmark.out / "data", f"{name}-test", frames)
    foundation = benchmark.foundation(data.foundation)
    folder = benchmark.out / f"softened-{name}"
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
    settings = argparse.Namespace(**vars(options), host="mace", keep=False)
    benchmark = Benchmark(Plan.read(options.cases), settings)
    found = []
    for name in options.data:
        if absent := benchmark.plan.data[name].absent(options.shared):
            print(f"Left out: {name}: {absent[0]} is not there")
        else:
            found += rows(benchmark, name)
    header = ["data", "model", "structures", "forces, meV/Å", "force slope", "energy, meV/atom"]
    table = with_versions(markdown_table(header, found), benchmark_mace.PACKAGES)
    print(table)
    if options.readme:
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(), "softening", table))


if __name__ == "__main__":
    main()
