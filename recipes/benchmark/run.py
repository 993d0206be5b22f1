"""Run sets of the benchmark's cases, and write one tidy table of results.

    export PYTHONPATH=recipes/quickstart
    python recipes/benchmark/run.py small
    python recipes/benchmark/run.py learning_rates --processes 8

Each case is a real ``mace_run_train`` in a process of its own. What was trained before is kept, so
that a run can be stopped and called again. The table has a row for each case: its settings,
errors, seconds, versions and the command line.
"""

from __future__ import annotations

import argparse
import csv
import math
import shlex
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mace_host
from arguments import add_training_arguments
from ase.io import read, write
from benchmark_cases import HERE, Case, Plan, chosen, frames_of, located, write_named
from evaluate import errors_of
from tqdm import tqdm

SHARED_DATA = HERE.parents[2] / "shared" / "data"  # cases without their data are left out
BATCH_SIZE = 5
VALID_FRACTION = 0.2
PACKAGES = ("mace-weak", "mace-torch", "torch")


class Benchmark:
    """The runs of one plan in one folder."""

    def __init__(self, plan: Plan, options: argparse.Namespace) -> None:
        self.plan = plan
        self.options = options
        self.out: Path = options.out.resolve()
        self.foundation = options.foundation or mace_host.train_foundation(options)
        self.test_files: dict[str, Path] = {}
        self.train_files: dict[Case, Path] = {}

    def data_is_here(self, name: str) -> bool:
        files = [source["file"] for source in self.plan.data[name].values()]
        return all(located(file, self.options.shared).exists() for file in files)

    def prepare(self, cases: list[Case]) -> None:
        """Write the files of the cases, reading each source once."""
        folder, shared = self.out / "data", self.options.shared
        for name in dict.fromkeys(case.data for case in cases):
            source = self.plan.data[name]
            test = frames_of(source["test"], shared, forces=True)
            self.test_files[name] = write_named(folder, f"{name}-test", test)
            pool = frames_of(source["train"], shared, forces=False)
            for case in cases:
                if case.data == name:
                    title = f"{name}-{case.structures}-{case.seed}"
                    self.train_files[case] = write_named(folder, title, chosen(pool, case))

    def row(self, case: Case) -> dict[str, Any]:
        """Train and test one case."""
        flags, epochs = self.flags(case), self.epochs(case)
        model = mace_host.mace_run_train(
            self.out, "case", mace_host.FINETUNE, *flags, epochs=epochs, threads=1, quiet=True
        )
        command = mace_host.train_command(mace_host.FINETUNE, *flags, epochs=epochs)
        return {
            **vars(case),
            **self.errors(model, self.test_files[case.data]),
            "seconds": float(model.with_name("seconds").read_text()),
            **{name: version(name) for name in PACKAGES},
            "command": shlex.join(command),
        }

    def flags(self, case: Case) -> list[str]:
        flags = {
            "foundation_model": self.foundation,
            "train_file": self.train_files[case],
            "valid_fraction": VALID_FRACTION,
            "batch_size": BATCH_SIZE,
            "lr": case.lr,
            # the learning rate falls alike, however many epochs the steps are
            "lr_scheduler_gamma": f"{0.96 ** (100 / self.epochs(case)):.6f}",
            "seed": case.seed,
            "device": self.options.device,
            **self.plan.losses[case.loss],
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def epochs(self, case: Case) -> int:
        trained = case.structures - math.floor(case.structures * VALID_FRACTION)
        return max(1, round(case.steps / math.ceil(trained / BATCH_SIZE)))

    def errors(self, model: Path, test_file: Path) -> dict[str, float]:
        predicted = model.with_name(f"predicted-{test_file.name}")
        if not predicted.exists():
            write(predicted, mace_host.predict(str(model), test_file, self.options.device))
        errors = errors_of(read(predicted, ":"))
        return {
            "energy_rmse": round(errors.energy_rmse, 3),
            "force_rmse": round(errors.force_rmse, 2),
            "slope": round(errors.slope, 4),
        }

    def run(self, cases: list[Case]) -> list[dict[str, Any]]:
        """The rows of the cases, in order, ``--processes`` trainings at a time."""
        self.prepare(cases)
        rows: dict[Case, dict[str, Any]] = {}
        with ThreadPoolExecutor(self.options.processes) as pool:
            futures = {pool.submit(self.row, case): case for case in cases}
            bar = tqdm(as_completed(futures), total=len(futures), unit="case")
            for future in bar:
                case = futures[future]
                rows[case] = future.result()
                bar.set_postfix_str(f"{case.title}: {rows[case]['force_rmse']:.0f} meV/Å")
                write_csv(self.options.csv, [rows[case] for case in cases if case in rows])
        return [rows[case] for case in cases]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    default = Plan.read(HERE / "cases.yaml")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", help=f"set of cases, as {', '.join(default.sets)}")
    parser.add_argument("--cases", type=Path, default=HERE / "cases.yaml", help="list of cases")
    parser.add_argument("--train", help="extxyz file of your own in place of the data of the set")
    parser.add_argument("--test", help="extxyz file with forces, for --train")
    parser.add_argument("--energy-key", default="REF_energy", help="in --train and --test")
    parser.add_argument("--forces-key", default="REF_forces", help="in --test")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--csv", type=Path, help="table to write; default: OUT/SET.csv")
    parser.add_argument("--shared", type=Path, default=SHARED_DATA, help="folder of shared data")
    add_training_arguments(parser)
    options = parser.parse_args()
    plan = Plan.read(options.cases)
    if options.train:
        plan = plan.with_data(
            options.train, options.test, energy=options.energy_key, forces=options.forces_key
        )
    options.csv = options.csv or options.out / f"{options.set}.csv"
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(plan, options)
    cases = list(plan.cases(options.set))
    absent = {case.data for case in cases if not benchmark.data_is_here(case.data)}
    for name in sorted(absent):
        print(f"{name} is left out: its files are not in {options.shared}")
    benchmark.run([case for case in cases if case.data not in absent])
    print(f"Results: {options.csv}")


if __name__ == "__main__":
    main()
