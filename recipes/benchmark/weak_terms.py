"""What the weak terms add in closed form: the tangent model with none, one or both of them.

    python -m recipes.benchmark.weak_terms --readme

Force errors of the tangent model itself, before a model file learns it, on the unseen structures.
The evidence chooses the weights of the terms that are there, and for ``finetune`` also whether that
of order 0 is there. The last column compares its choice with the best of all columns in hindsight,
seed by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from ase import Atoms

from mace_weak.command.finetune_files import read_training
from mace_weak.command.model_errors import rmse
from mace_weak.command.models import Host, Model, finetuning_host
from mace_weak.command.select import foundation_model
from mace_weak.structures import Keys, evenly
from mace_weak.tangent.fit import Tangent, gather
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.plan import Settings
from mace_weak.tangent.prior import FORCES, TAYLOR
from mace_weak.tangent.solution import INCLUDED
from recipes.benchmark.benchmark_cases import Case
from recipes.benchmark.benchmark_data import FORCES as REFERENCE_FORCES
from recipes.benchmark.benchmark_data import frames_of, write_files
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.benchmark.plan_arguments import left_out, measure_table
from recipes.benchmark.report_tables import CLOSED, with_spread

NONE: Mapping[str, float] = {TAYLOR: 0.0, FORCES: 0.0}
CHOICES: Mapping[str, Mapping[str, float]] = {  # prior probabilities of terms other than 1
    "none": NONE,
    "Taylor": {FORCES: 0.0},
    "order 0": {TAYLOR: 0.0},
    "both": {},
    CLOSED: INCLUDED,
}
HEADER = ("data", *CHOICES, f"{CLOSED} / best")
AT_ONCE = 10  # unseen structures in a batch


class Foundation:
    """A foundation model that can be linearised, and unseen structures with forces."""

    def __init__(self, model: Model, host: Host, unseen: Sequence[Atoms]) -> None:
        self.host = host
        self.model = model
        self.frames = unseen
        self.unseen = host.parametric_model(model, unseen)

    def tangents(
        self,
        train: Path,
        seed: int,
        choices: Mapping[str, Mapping[str, float]],
        *,
        error_bars: bool,
    ) -> dict[str, Tangent]:
        """The tangent models of the labels in a file, by the choice of terms."""
        training = read_training(train, Keys())
        model = self.host.parametric_model(self.model, training.frames)
        start = model.predicted(lambda done: None)
        labels = Labels.beyond(start, model.counts, training.energies, training.forces)
        gathered = gather(model, labels, Settings(seed=seed), error_bars=error_bars)
        return {name: gathered.solved(included)[0] for name, included in choices.items()}

    def force_errors(self, tangent: Tangent) -> list[np.ndarray]:
        """Those of each unseen structure (n_atoms, 3), eV/Å."""
        count = len(self.frames)
        found: list[np.ndarray] = []
        for start in range(0, count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, count))
            forces = tangent.potential(self.unseen, numbers).rest().forces
            if forces is None:
                raise RuntimeError("the tangent model gave no forces")
            sizes = [self.unseen.sizes[number] for number in numbers]
            found += [part.detach().numpy() for part in torch.split(forces, sizes)]
        references = (atoms.arrays[REFERENCE_FORCES] for atoms in self.frames)
        return [one - reference for one, reference in zip(found, references, strict=True)]


def force_error(errors: Sequence[np.ndarray]) -> float:
    """Root mean square of a component, meV/Å."""
    return 1e3 * rmse(np.concatenate(errors))


def measured(
    benchmark: Benchmark,
    choices: Mapping[str, Mapping[str, float]],
    measure: Callable[[Foundation, Tangent], object],
    *,
    error_bars: bool = False,
    most_unseen: int = 1000,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """For all data that is there, a row for each seed and a column for each choice of terms."""
    for name in benchmark.options.data:
        if left_out(benchmark, name):
            continue
        data, options = benchmark.plan.data[name], benchmark.options
        pool = frames_of(data.train, options.shared, forces_needed=False)
        unseen = frames_of(data.test, options.shared, forces_needed=True)
        cases = [Case(name, CLOSED, options.structures, 0, 0, seed) for seed in options.seeds]
        path = benchmark.foundation(data.foundation)
        with foundation_model(path, device="cpu") as model, TemporaryDirectory() as folder:
            foundation = Foundation(model, finetuning_host(path), evenly(unseen, most_unseen))
            rows = []
            for case in cases:
                train = write_files(Path(folder), pool, case, "energies").train
                tangents = foundation.tangents(train, case.seed, choices, error_bars=error_bars)
                rows.append(
                    {one: measure(foundation, tangent) for one, tangent in tangents.items()}
                )
        yield name, pd.DataFrame(rows)


def line(name: str, errors: pd.DataFrame) -> list[str]:
    """Means of the seeds (the rows of ``errors``) for each choice of terms (its columns)."""
    chosen = errors[CLOSED] / errors.min(axis=1)
    cells = [with_spread(errors[choice].mean(), errors[choice].std()) for choice in CHOICES]
    return [name, *cells, with_spread(chosen.mean(), chosen.std(), 2)]


def rows(benchmark: Benchmark) -> Iterator[list[str]]:
    """A line for all data that is there."""

    def error(foundation: Foundation, tangent: Tangent) -> float:
        return force_error(foundation.force_errors(tangent))

    for name, errors in measured(benchmark, CHOICES, error):
        yield line(name, errors)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Which data, how many structures and which seeds."""
    parser.add_argument(
        "--data", nargs="+",
        default=["rmd17_ethanol", "h2co", "ammonia", "methanol", "acetylacetone",
                 "molecules_two_levels", "ethanol_two_levels", "h2co_two_levels"],
    )  # fmt: skip
    parser.add_argument("--structures", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_arguments(parser)
    measure_table(parser, "weak terms", HEADER, rows)


if __name__ == "__main__":
    main()
