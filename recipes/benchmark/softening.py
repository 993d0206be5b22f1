"""What one labelled structure with forces does to the foundation models: ``mace-weak soften``.

    python -m recipes.benchmark.softening --readme

For each data set with forces: the command fine-tunes the foundation model on the structure of
highest energy of the unseen ones, and tells the errors on the others before and after.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator

from recipes.benchmark.benchmark_cases import HERE
from recipes.benchmark.benchmark_data import frames_of, write_named
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.benchmark.plan_arguments import left_out, measure_table
from recipes.quickstart import processes

PAGE = HERE.parent / "sparse_data" / "README.md"
HEADER = ("data", "model", "structures", "forces, meV/Å", "force slope", "energy, meV/atom")
COLUMNS = ("forces, meV/Å", "force slope", "±", "energy after its zero, meV/atom")


def rows_of(benchmark: Benchmark, name: str) -> Iterator[list[str]]:
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


def rows(benchmark: Benchmark) -> Iterator[list[str]]:
    """Those of all data that is there."""
    for name in benchmark.options.data:
        if not left_out(benchmark, name):
            yield from rows_of(benchmark, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["rmd17_ethanol", "h2co", "silicon"])
    measure_table(parser, "softening", HEADER, rows, page=PAGE)


if __name__ == "__main__":
    main()
