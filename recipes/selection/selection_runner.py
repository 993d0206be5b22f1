"""The fine-tunings of the demonstration: what is chosen, trained and tested."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from tqdm import tqdm

from recipes.benchmark import benchmark_mace
from recipes.benchmark.benchmark_cases import Case, Plan
from recipes.benchmark.benchmark_closed_form import ClosedForm
from recipes.benchmark.benchmark_data import LABELS, Files, bare, frames_of, write_named
from recipes.benchmark.benchmark_runner import Benchmark
from recipes.quickstart import processes

FINETUNE = "finetune"
RANDOM, FORCES = "random", "forces"


@dataclass(frozen=True)
class Choice:
    """One choice of ``structures`` to fine-tune on."""

    data: str
    structures: int
    method: str
    seed: int


class Demonstration:
    """The data, foundation models and fine-tunings of all choices.

    Data, fine-tunings and tests are those of the benchmark, in a folder of their own.
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
        """Training and validation files of a choice, and the share of the forces it leaves open.

        A random half of the structures is the pool, of which the command sees no labels. The
        validation file, by which nothing is chosen, is of the other half. The share is that of the
        method ``forces`` for it and for a random choice, NaN for others.
        """
        frames, n = self.frames[choice.data], choice.structures
        order = np.random.default_rng(choice.seed).permutation(len(frames))
        pool, others = np.split(order, [len(frames) // 2])
        stem = f"{choice.data}-{choice.seed}"
        file = write_named(self.folder, f"{stem}-pool", [bare(frames[index]) for index in pool])
        selected, result = self.selected(choice, file)
        indices = [pool[atoms.info["pool_index"]] for atoms in read(selected, ":")]
        train, valid = LABELS["energies"].files(
            [frames[index] for index in indices],
            [frames[index] for index in others[: max(1, n // 10)]],
        )
        files = Files(
            write_named(self.folder, f"{stem}-{choice.method}-{n}", train),
            write_named(self.folder, f"{stem}-valid", valid),
            n_train=n,
        )
        left = [
            row["chosen"]
            for table in result["tables"].values()
            for row in table
            if row["structures"] == n
        ]
        return files, left[0] if left else float("nan")

    def selected(self, choice: Choice, pool: Path) -> tuple[Path, dict[str, Any]]:
        """What the command chooses, and what it says."""
        n = choice.structures
        out = pool.with_name(f"{pool.stem}-{choice.method}-{n}.xyz")
        model = [] if choice.method == RANDOM else [f"--model={self.foundation(choice.data)}"]
        result = processes.mace_weak(
            "select", pool, f"--n={n}", f"--method={choice.method}", f"--seed={choice.seed}",
            f"--device={self.options.device}", f"--out={out}", "--overwrite", *model,
        )  # fmt: skip
        return out, result

    def row(self, choice: Choice, files: Files, left: float) -> dict[str, Any]:
        """Fine-tune and test one."""
        training = ClosedForm(
            Case(choice.data, FINETUNE, choice.structures, 0, 0, choice.seed),
            files=files,
            foundation=self.foundation(choice.data),
            suffix=benchmark_mace.MODEL_SUFFIX,
            options=self.options,
        )
        model = training.run(self.benchmark.out)
        errors = self.benchmark.errors(str(model), choice.data)
        return {**vars(choice), "left": left, **errors, **training.measured(model)}
