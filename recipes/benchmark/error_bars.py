"""Whether the error bars of the closed form hold, on unseen structures.

    python -m recipes.benchmark.error_bars --readme

Errors of forces and energies of the tangent model beside their bars: with the weak terms, and
without them. The latter are the prediction rigidities of Bigi et al. (arXiv:2403.02251) with the
gradients by all parameters, whose prior and noise the evidence chose too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mace_weak.command.error_bars import Calibration
from mace_weak.command.model_errors import rmse
from mace_weak.tangent.error_bars import ErrorBars
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.solution import INCLUDED
from recipes.benchmark.benchmark_data import ENERGY
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.benchmark.plan_arguments import measure_table
from recipes.benchmark.report_tables import with_spread
from recipes.benchmark.weak_terms import NONE, Foundation, add_data_arguments, measured

CHOICES = {"with": INCLUDED, "without": NONE}
UNSEEN = 20  # structures
HEADER = (
    "data", "energies: error / expected", "forces, meV/Å", "expected", "error / expected",
    "within 1 σ (68 %)", "error / expected, no weak terms",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Energies and components of forces with their bars, eV and eV/Å."""

    energies: Calibration
    forces: Calibration


def judge(foundation: Foundation, tangent: Tangent) -> Judged:
    """A tangent model on the unseen structures."""
    unseen, counts = foundation.unseen, foundation.unseen.counts
    bars = ErrorBars.of(tangent, unseen, unseen).on(unseen)
    spreads = [bars.spread(number, counts[number]) for number in range(len(counts))]
    start = unseen.predicted(lambda done: None)
    energies = tangent.potential(unseen, range(len(counts))).rest().energy.numpy()
    energies += start.constants + counts @ tangent.shifts
    labels = np.array([atoms.info[ENERGY] for atoms in foundation.frames])
    errors = np.concatenate(foundation.force_errors(tangent)).ravel()
    bars_of_forces = np.concatenate([one.forces for one in spreads if one.forces is not None])
    return Judged(
        Calibration.of([(energies - labels, np.array([one.energy for one in spreads]))]),
        Calibration.of([(errors, bars_of_forces.ravel())]),
    )


def line(name: str, found: pd.DataFrame) -> list[str]:
    """Means of the seeds (the rows of ``found``)."""

    def mean(values: list[float], digits: int) -> str:
        return with_spread(float(np.mean(values)), float(np.std(values, ddof=1)), digits)

    def forces(choice: str) -> list[str]:
        calibrations: list[Calibration] = [one.forces for one in found[choice]]
        return [
            mean([1e3 * rmse(one.errors) for one in calibrations], 0),
            f"{np.mean([1e3 * rmse(one.spreads) for one in calibrations]):.0f}",
            mean([one.ratio for one in calibrations], 2),
        ]

    within = f"{100 * np.mean([one.forces.within(1) for one in found['with']]):.0f} %"
    ratios = mean([one.energies.ratio for one in found["with"]], 2)
    return [name, ratios, *forces("with"), within, forces("without")[-1]]


def rows(benchmark: Benchmark) -> Iterator[list[str]]:
    """A line for all data that is there."""
    for name, found in measured(benchmark, CHOICES, judge, error_bars=True, most_unseen=UNSEEN):
        yield line(name, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_arguments(parser)
    measure_table(parser, "error bars", HEADER, rows)


if __name__ == "__main__":
    main()
