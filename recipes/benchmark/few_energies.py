"""The order of the expansion in each fine-tuning of the benchmark, and the numbers it follows from.

    python -m recipes.benchmark.few_energies --readme

For each data set and number of structures that ``weak_taylor`` is trained on: the training sets of
all seeds are weighed as the loss weighs them, with the foundation model as their anchor. And how
the anchor's energies follow the labels, which ``mace-weak check`` looks at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from ase import Atoms

from mace_weak.defaults import (
    Assessment,
    Situation,
    StructureSummary,
    assess,
    resolved_order,
)
from mace_weak.options import WeakOptions
from recipes.benchmark.benchmark_cases import Case, Plan
from recipes.benchmark.benchmark_data import ENERGY, chosen, frames_of, write_named
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.benchmark.plan_arguments import left_out, measure_table

HEADER = (
    "data", "structures", "energies for each coordinate", "left by the anchor",
    "its scale", "correlation", "order", "seeds",
)  # fmt: skip
METHOD = "weak_taylor"
MAX_ELEMENT = 118


def training_sets(plan: Plan) -> dict[str, dict[int, list[Case]]]:
    """The fine-tunings by the default loss: by data and structures, one case of each seed."""
    cases = (case for name in plan.sets for case in plan.cases(name) if case.method == METHOD)
    found: dict[str, dict[int, list[Case]]] = {}
    for case in cases:
        own = found.setdefault(case.data, {}).setdefault(case.structures, [])
        if case.seed not in {other.seed for other in own}:
            own.append(case)
    return found


def labelled_by_anchor(benchmark: Benchmark, name: str) -> list[Atoms]:
    """The structures that training sets are chosen from, with the foundation model's energies."""
    data = benchmark.plan.data[name]
    pool = frames_of(data.train, benchmark.options.shared, forces_needed=False)
    file = write_named(benchmark.out / "data", f"{name}-pool", pool)
    return benchmark.predicted(benchmark.foundation(data.foundation), file)


def assessment_of(pool: list[Atoms], case: Case) -> Assessment:
    """What is known of the training set of a case."""
    train, _ = chosen(pool, case)
    return assess(
        StructureSummary(
            tuple(np.bincount(atoms.numbers, minlength=MAX_ELEMENT + 1).tolist()),
            atoms.info[ENERGY],
            atoms.info["predicted_energy"],
            has_forces=False,
        )
        for atoms in train
    )


def order_of(assessment: Assessment) -> int:
    """The order that the loss takes by default."""
    situation = Situation(anchored=True, assessment=assessment)
    return resolved_order(WeakOptions.from_mapping({}), situation)


def span(values: list[float]) -> str:
    """The lowest and the highest of them, or one where they read the same."""
    texts = [f"{value:.2f}" for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(texts))


def rows(benchmark: Benchmark) -> Iterator[list[str]]:
    """A line for each training set, those with the fewest energies for their atoms first."""
    found: dict[tuple[str, int], list[Assessment]] = {}
    for name, own in training_sets(benchmark.plan).items():
        if left_out(benchmark, name):
            continue
        pool = labelled_by_anchor(benchmark, name)
        for structures, cases in own.items():
            found[name, structures] = [assessment_of(pool, case) for case in cases]
    lines = [(key, line_of(assessments)) for key, assessments in found.items()]
    for (data, structures), line in sorted(lines, key=lambda entry: float(entry[1][0].split()[0])):
        yield [data, str(structures), *line]


def line_of(assessments: list[Assessment]) -> list[str]:
    """The cells of the assessments of all seeds."""
    agreements = [one.agreement for one in assessments]
    return [
        span([one.labels / one.coordinates for one in assessments]),
        span([one.left / one.labels for one in agreements]),
        span([one.scale for one in agreements]),
        span([one.correlation for one in agreements]),
        " or ".join(sorted({str(order_of(one)) for one in assessments})),
        str(len(assessments)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    measure_table(parser, "few energies", HEADER, rows)


if __name__ == "__main__":
    main()
