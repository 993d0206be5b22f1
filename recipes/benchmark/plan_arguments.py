"""The arguments of all scripts that read ``cases.yaml``, and the table that some measure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from recipes.benchmark.benchmark_cases import HERE, Plan
from recipes.benchmark.benchmark_runner import ROOT, Benchmark
from recipes.quickstart.arguments import add_training_arguments
from recipes.quickstart.tables import markdown_table, with_table, with_versions

README = HERE / "README.md"
SHARED_DATA = ROOT.parent / "shared" / "data"  # cases without their data are left out


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """The list of cases, the folders, and those of trainings."""
    parser.add_argument("--cases", type=Path, default=HERE / "cases.yaml", help="list of cases")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--shared", type=Path, default=SHARED_DATA, help="folder of shared data")
    add_training_arguments(parser)


def measure_table(
    parser: argparse.ArgumentParser,
    marker: str,
    header: Sequence[str],
    rows: Callable[[Benchmark], Iterable[Sequence[str]]],
    *,
    page: Path = README,
) -> None:
    """Print the table of the ``rows`` of MACE, with ``--readme`` into the page at ``marker``."""
    parser.add_argument("--readme", action="store_true", help="the table into the README")
    add_plan_arguments(parser)
    options = parser.parse_args()
    settings = argparse.Namespace(**vars(options), host="mace", keep=False)
    benchmark = Benchmark(Plan.read(options.cases), settings)
    found = list(rows(benchmark))
    table = with_versions(markdown_table(header, found), benchmark.host.PACKAGES)
    print(table)
    if options.readme:
        page.write_text(with_table(page.read_text(), marker, table))


def left_out(benchmark: Benchmark, data: str) -> bool:
    """Whether files of this data are absent, which is said."""
    absent = benchmark.plan.data[data].absent(benchmark.options.shared)
    if absent:
        print(f"Left out: {data}: {absent[0]} is not there")
    return bool(absent)
