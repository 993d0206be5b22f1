"""Δ-learning beside fine-tuning: a Gaussian process on the foundation model's descriptors.

    python -m recipes.benchmark.descriptor_learning

The process learns the difference between the labels and the foundation model's energies from the
descriptors of MACE, averaged over the atoms of a structure; its hyperparameters are those of the
largest marginal likelihood. Forces of the correction are central differences of its energies. The
rows are added to ``published``, measured as those of all other methods.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mace_weak.command import model_errors
from mace_weak.command.model_errors import Predicted
from mace_weak.command.models import load_model
from mace_weak.structures import Prediction
from recipes.benchmark.benchmark_cases import HERE, Case, Plan
from recipes.benchmark.benchmark_data import ENERGY, FORCES, chosen, frames_of
from recipes.benchmark.benchmark_runner import Benchmark, write_csv
from recipes.benchmark.plan_arguments import add_plan_arguments, left_out

METHOD = "Gaussian process on descriptors"
STEP = 1e-3  # Å, of the central differences
AT_ONCE = 50  # structures in a batch


class DeltaModel:
    """A foundation model and a correction of its energies."""

    def __init__(self, foundation: str) -> None:
        self.saved = load_model(foundation, device="cpu")
        self.saved.model.double()  # differences of small steps need the digits
        kernel = ConstantKernel(1.0, (1e-4, 1e6)) * RBF(10.0, (1e-1, 1e4)) + WhiteKernel(
            1e-2, (1e-8, 1e1)
        )
        process = GaussianProcessRegressor(
            kernel, normalize_y=True, n_restarts_optimizer=10, random_state=1
        )
        self.correction: Pipeline = make_pipeline(StandardScaler(), process)

    def descriptors(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Averages over the atoms of each structure: (n_frames, n_features)."""
        batches = [frames[start : start + AT_ONCE] for start in range(0, len(frames), AT_ONCE)]
        return np.concatenate([self.saved.descriptors(batch) for batch in batches])

    def fit(self, frames: Sequence[Atoms]) -> None:
        """Learn from the energies of structures of one composition."""
        start = np.array([prediction.energy for prediction in self.saved.predictions(frames)])
        labels = np.array([atoms.info[ENERGY] for atoms in frames])
        self.correction.fit(self.descriptors(frames), labels - start)

    def predictions(self, frames: Sequence[Atoms]) -> Iterator[Prediction]:
        """Energies (eV) and forces (eV/Å)."""
        energies = self.correction.predict(self.descriptors(frames))
        for atoms, start, energy in zip(
            frames, self.saved.predictions(frames), energies, strict=True
        ):
            yield Prediction(start.energy + energy, start.forces + self.forces(atoms))

    def forces(self, atoms: Atoms) -> np.ndarray:
        """Those of the correction, (n_atoms, 3) in eV/Å."""
        steps = STEP * np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
        copies = [atoms.copy() for _ in range(2 * len(steps))]
        for copy, step in zip(copies, (*steps, *-steps), strict=True):
            copy.positions += step
        forward, backward = self.correction.predict(self.descriptors(copies)).reshape(2, -1)
        return (backward - forward).reshape(-1, 3) / (2 * STEP)


def row(benchmark: Benchmark, case: Case, pool: list[Atoms], unseen: list[Atoms]) -> dict[str, Any]:
    """The errors of one case."""
    start = time.perf_counter()
    model = DeltaModel(benchmark.foundation(benchmark.plan.data[case.data].foundation))
    model.fit(chosen(pool, case)[0])
    seconds = time.perf_counter() - start
    predicted = [
        Predicted(
            atoms, {"energy": np.array(atoms.info[ENERGY]), "forces": atoms.arrays[FORCES]}, each
        )
        for atoms, each in zip(unseen, model.predictions(unseen), strict=True)
    ]
    errors = model_errors.errors_of(predicted)
    return {
        "host": "mace",
        **vars(case),
        "energy_rmse": round(errors.energy_rmse_about_mean, 3),
        "force_rmse": round(errors.force_rmse, 2),
        "slope": round(errors.slope, 4),
        "seconds": round(seconds, 1),
        **benchmark.versions(),
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
    benchmark = Benchmark(Plan.read(options.cases), options)
    rows: list[dict[str, Any]] = []
    for name in options.data:
        if left_out(benchmark, name):
            continue
        data = benchmark.plan.data[name]
        pool = frames_of(data.train, options.shared, forces_needed=False)
        unseen = frames_of(data.test, options.shared, forces_needed=True)
        for seed in options.seeds:
            case = Case(name, METHOD, options.structures, 0, 0, seed)
            rows.append(row(benchmark, case, pool, unseen))
            print(f"{name}, seed {seed}: {rows[-1]['force_rmse']:.0f} meV/Å", flush=True)
            write_csv(options.csv, rows)


if __name__ == "__main__":
    main()
