"""The trainings of the demonstration: what is chosen, trained and tested."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from tqdm import tqdm

from recipes.benchmark import benchmark_mace
from recipes.benchmark.benchmark_cases import Case, Plan
from recipes.benchmark.benchmark_data import LABELS, Files, bare, frames_of, write_named
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.quickstart import processes

LEARNING_RATE, LOSS = 0.003, "weak_taylor"


@dataclass(frozen=True)
class Choice:
    """One choice of structures to train on."""

    data: str
    method: str
    seed: int


class Demonstration:
    """The data, foundation models and trainings of all choices.

    Data, trainings and tests are those of the benchmark, in a folder of their own.
    """

    def __init__(self, plan: Plan, options: argparse.Namespace) -> None:
        self.plan, self.options = plan, options
        self.benchmark = Benchmark(
            plan, argparse.Namespace(**vars(options), host="mace", keep=False)
        )
        self.folder = self.benchmark.out / "data"
        self.frames: dict[str, list[Atoms]] = {}

    def absent(self, data: str) -> list[str]:
        """Files of some data that are not there.

        Raises:
            SystemExit: if there are no data of that name.
        """
        if data not in self.plan.data:
            raise SystemExit(f"there are no data '{data}': there are {', '.join(self.plan.data)}")
        return self.plan.data[data].absent(self.options.shared)

    def prepare(self, data: str) -> dict[str, float]:
        """Read the structures, and train the foundation model, if it is not there; its errors."""
        source, options = self.plan.data[data], self.options
        self.frames[data] = frames_of(source.train, options.shared, forces_needed=False)
        test = frames_of(source.test, options.shared, forces_needed=True)
        self.benchmark.test_files[data] = write_named(self.folder, f"{data}-test", test)
        name = source.foundation
        model = options.foundation or benchmark_mace.train_foundation(
            options.foundations.resolve(), name, self.benchmark.source(name),
            device=options.device, threads=options.processes,
        )  # fmt: skip
        self.benchmark.foundations[name] = model
        return self.benchmark.errors(model, data)

    def rows(self, choices: list[Choice]) -> Iterator[dict[str, Any]]:
        """Choose all, then train and test, ``--processes`` at a time."""
        picked = [self.picked(choice) for choice in tqdm(choices, unit="choice")]
        with ThreadPoolExecutor(self.options.processes) as pool:
            rows = pool.map(self.row, choices, *zip(*picked, strict=True))
            yield from tqdm(rows, total=len(choices), unit="training")

    def foundation(self, data: str) -> str:
        return self.benchmark.foundation(self.plan.data[data].foundation)

    def picked(self, choice: Choice) -> tuple[Files, float]:
        """Training and validation files of a choice, and its D-efficiency.

        A random half of the structures is the pool, of which the command sees no labels. For
        validation, by which nothing is chosen, are some of the other half.
        """
        frames, n = self.frames[choice.data], self.options.n
        order = np.random.default_rng(choice.seed).permutation(len(frames))
        pool, others = np.split(order, [len(frames) // 2])
        stem = f"{choice.data}-{choice.seed}"
        file = write_named(self.folder, f"{stem}-pool", [bare(frames[index]) for index in pool])
        selected = file.with_name(f"{file.stem}-{choice.method}-{n}.xyz")
        result = processes.mace_weak(
            "select", file, f"--n={n}", f"--method={choice.method}", f"--seed={choice.seed}",
            f"--model={self.foundation(choice.data)}", f"--device={self.options.device}",
            f"--out={selected}", "--overwrite",
        )  # fmt: skip
        indices = [pool[atoms.info["pool_index"]] for atoms in read(selected, ":")]
        train = LABELS["energies"].train([frames[index] for index in indices])
        valid = LABELS["energies"].valid([frames[index] for index in others[: max(1, n // 10)]])
        files = Files(
            write_named(self.folder, f"{stem}-{choice.method}", train),
            write_named(self.folder, f"{stem}-valid", valid),
            n_train=n,
        )
        return files, result["tables"]["Choice"][0]["D-efficiency"]

    def row(self, choice: Choice, files: Files, d_efficiency: float) -> dict[str, Any]:
        """Train and test one."""
        source, options = self.plan.data[choice.data], self.options
        training = benchmark_mace.Training(
            Case(choice.data, LOSS, options.n, LEARNING_RATE, options.steps, choice.seed),
            method=self.plan.methods[LOSS],
            data=source,
            files=files,
            source=self.benchmark.source(source.foundation),
            foundation=self.foundation(choice.data),
            device=options.device,
        )
        errors = self.benchmark.errors(str(training.run(self.benchmark.out)), choice.data)
        return {**vars(choice), "structures": options.n, "d_efficiency": d_efficiency, **errors}
