"""Δ-learning beside fine-tuning: a Gaussian process on the foundation model's descriptors.

    python -m recipes.benchmark.descriptor_learning

The process learns the difference between the labels and the foundation model's energies, as a sum
over atoms: those of one element are as alike as their invariant descriptors of MACE. Its
hyperparameters are those of the largest marginal likelihood. Forces of the correction are central
differences of its energies. The rows are added to ``published``, measured as those of all other
methods.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from mace_weak.mace.saved import load_saved
from recipes.benchmark.benchmark_cases import HERE, Case, Method, Plan
from recipes.benchmark.benchmark_data import ENERGY
from recipes.benchmark.benchmark_runner import Benchmark, columns_of, write_csv
from recipes.benchmark.plan_arguments import add_plan_arguments, left_out
from recipes.quickstart.evaluate import errors_of

METHOD = "Gaussian process on descriptors"
STEP = 1e-3  # Å, of the central differences
AT_ONCE = 50  # structures in a batch
CONSTANT = 1e-12  # spread of a descriptor that does not vary


def same_element(numbers: Sequence[int]) -> np.ndarray:
    """Whether two atoms are of the same element, 0 or 1: (n_atoms, n_atoms)."""
    return np.equal.outer(numbers, numbers).astype(float)


class SumOverAtoms(RBF):
    """The sum of RBF over all pairs of atoms of the same element, of two structures.

    A structure is a row of the features of its atoms; ``numbers`` are their elements.
    """

    def __init__(
        self,
        numbers: tuple[int, ...],
        length_scale: float = 10.0,
        length_scale_bounds: tuple[float, float] = (1e-1, 1e4),
    ) -> None:
        super().__init__(length_scale, length_scale_bounds)
        self.numbers = numbers

    def __call__(
        self, rows: np.ndarray, others: np.ndarray | None = None, eval_gradient: bool = False
    ) -> Any:
        count = len(self.numbers)
        atoms = rows.reshape(len(rows) * count, -1)
        by = None if others is None else others.reshape(len(others) * count, -1)
        pairs = super().__call__(atoms, by, eval_gradient=eval_gradient)
        return tuple(map(self.summed, pairs)) if eval_gradient else self.summed(pairs)

    def summed(self, pairs: np.ndarray) -> np.ndarray:
        """Of pairs of atoms, those of each pair of structures."""
        count = len(self.numbers)
        shape = (len(pairs) // count, count, -1, count, *pairs.shape[2:])
        return np.einsum("iajb...,ab->ij...", pairs.reshape(shape), same_element(self.numbers))

    def diag(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self(row[None]).item() for row in rows])


class DeltaModel:
    """A foundation model, and a correction learned from structures of the same atoms."""

    def __init__(self, foundation: str, frames: Sequence[Atoms], *, device: str = "cpu") -> None:
        # differences of small steps need the digits
        self.saved = load_saved(foundation, device=device, dtype="float64")
        self.numbers = tuple(frames[0].numbers.tolist())
        same = same_element(self.numbers)
        average, descriptors = same / same.sum(axis=1), self.descriptors(frames)
        self.center = average @ descriptors.mean(axis=0)
        spread = np.sqrt(average @ np.square(descriptors - self.center).mean(axis=0))
        self.spread = np.where(spread > CONSTANT, spread, 1.0)
        kernel = ConstantKernel(1.0, (1e-4, 1e6)) * SumOverAtoms(self.numbers)
        self.process = GaussianProcessRegressor(
            kernel + WhiteKernel(1e-2, (1e-8, 1e1)),
            normalize_y=True,  # the mean has the energies of the atoms
            n_restarts_optimizer=10,
            random_state=1,
        )
        start = [prediction.energy for prediction in self.saved.predictions(frames)]
        labels = [atoms.info[ENERGY] for atoms in frames]
        self.process.fit(self.rows(descriptors), np.subtract(labels, start))

    def descriptors(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Invariant features: (n_frames, n_atoms, n_features).

        Raises:
            SystemExit: if a structure has other atoms than those learned from.
        """
        if any(tuple(atoms.numbers) != self.numbers for atoms in frames):
            raise SystemExit(f"{METHOD}: all structures must have the same atoms in one order")
        batches = [frames[start : start + AT_ONCE] for start in range(0, len(frames), AT_ONCE)]
        features = np.concatenate([self.saved.atom_descriptors(batch) for batch in batches])
        return features.reshape(len(frames), len(self.numbers), -1)

    def rows(self, descriptors: np.ndarray) -> np.ndarray:
        """In units of their spread over the atoms of an element, a row for each structure."""
        return ((descriptors - self.center) / self.spread).reshape(len(descriptors), -1)

    def correction(self, frames: Sequence[Atoms]) -> np.ndarray:
        """What is added to the energies of the foundation model, eV."""
        return self.process.predict(self.rows(self.descriptors(frames)))

    def forces(self, atoms: Atoms) -> np.ndarray:
        """Those of the correction, (n_atoms, 3) in eV/Å."""
        steps = STEP * np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
        copies = [atoms.copy() for _ in range(2 * len(steps))]
        for copy, step in zip(copies, (*steps, *-steps), strict=True):
            copy.positions += step
        forward, backward = self.correction(copies).reshape(2, -1)
        return (backward - forward).reshape(-1, 3) / (2 * STEP)

    def predicted(self, frames: Sequence[Atoms]) -> Iterator[Atoms]:
        """The structures with ``predicted_energy`` (eV) and ``predicted_forces`` (eV/Å)."""
        starts, energies = self.saved.predictions(frames), self.correction(frames)
        for atoms, start, energy in zip(frames, starts, energies, strict=True):
            frame = atoms.copy()
            frame.info["predicted_energy"] = start.energy + energy
            frame.arrays["predicted_forces"] = start.forces + self.forces(atoms)
            yield frame


def row(benchmark: Benchmark, case: Case) -> dict[str, Any]:
    """The errors of one case."""
    frames = read(benchmark.train_files[case].train, ":")
    foundation = benchmark.foundation(benchmark.foundation_name(case))
    start = time.perf_counter()
    model = DeltaModel(foundation, frames, device=benchmark.options.device)
    seconds = time.perf_counter() - start
    test = benchmark.test_files[case.data]
    errors = errors_of(list(model.predicted(read(test, ":"))))
    return {
        "host": "mace",
        **vars(case),
        **columns_of(errors),
        "seconds": round(seconds, 1),
        **benchmark.versions(),
        "scikit-learn": version("scikit-learn"),
        "test": test.name,
        "defaults": "",
        "command": "python -m recipes.benchmark.descriptor_learning",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["rmd17_ethanol", "h2co", "ammonia"])
    parser.add_argument("--structures", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--csv", type=Path, default=HERE / "published" / "descriptor_learning.csv")
    add_plan_arguments(parser)
    options = parser.parse_args()
    options.host, options.keep = "mace", False
    plan = Plan.read(options.cases)
    methods = {**plan.methods, METHOD: Method()}  # it sees energies
    benchmark = Benchmark(replace(plan, methods=methods), options)
    there = [name for name in options.data if not left_out(benchmark, name)]
    settings = itertools.product(there, options.seeds)
    cases = [Case(name, METHOD, options.structures, 0, 0, seed) for name, seed in settings]
    benchmark.prepare(cases)
    rows: list[dict[str, Any]] = []
    for case in cases:
        rows.append(row(benchmark, case))
        print(f"{case.data}, seed {case.seed}: {rows[-1]['force_rmse']:.0f} meV/Å", flush=True)
        write_csv(options.csv, rows)


if __name__ == "__main__":
    main()
