"""Real trainings by MACE's own `run`, in this process, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

NAME = "run"
SEED = 1
COMMON = (
    f"--name={NAME}",
    f"--seed={SEED}",
    "--device=cpu",
    "--batch_size=4",
    "--valid_batch_size=4",
    "--max_num_epochs=2",
    "--error_table=PerAtomRMSE",
    "--plot=False",
    "--pin_memory=False",
)
SMALL_MODEL = (
    "--hidden_irreps=4x0e+4x1o",
    "--num_radial_basis=4",
    "--radial_MLP=[8]",
    "--MLP_irreps=4x0e",
    "--max_ell=1",
    "--correlation=2",
    "--r_max=4.0",
)
SCRATCH = (*SMALL_MODEL, "--E0s=average", "--valid_fraction=0.3")
# with interactions whose weights MACE takes from a foundation model
POLAR = (
    "--model=PolarMACE",
    *(
        f"--{name}=RealAgnosticResidualNonLinearInteractionBlock"
        for name in ("interaction", "interaction_first")
    ),
)
FINETUNE = ("--E0s=estimated", "--valid_fraction=0.3", "--multiheads_finetuning=False")
ATOMIC_ENERGIES = {1: -16.0, 6: -1030.0, 7: -1480.0, 8: -2040.0}  # eV, near those of PBE
ALL_ELEMENTS = ("--foundation_model_elements=True", f"--E0s={ATOMIC_ENERGIES}")  # of the molecules


@dataclass(frozen=True)
class Run:
    """What a training run left in its folder."""

    folder: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of MACE's results file."""
        (path,) = (self.folder / "results").glob("*.txt")
        return [json.loads(line) for line in path.read_text().splitlines()]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["mode"] == "opt"]

    def column(self, name: str) -> list[float]:
        return [step[name] for step in self.steps]

    @property
    def log(self) -> str:
        return next((self.folder / "logs").glob(f"*-{SEED}.log")).read_text()

    @property
    def model(self) -> torch.nn.Module:
        return torch.load(self.folder / f"{NAME}.model", weights_only=False)

    @property
    def parameters(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])

    @property
    def atomic_energies(self) -> list[float]:
        return atomic_energies(self.model)


def atomic_energies(model: torch.nn.Module) -> list[float]:
    """Energies of the atoms in a model, eV, in the order of its elements."""
    return model.atomic_energies_fn.atomic_energies.flatten().tolist()


def arguments(folder: Path, *flags: str) -> list[str]:
    return [*COMMON, f"--work_dir={folder}", *flags]


def train(folder: Path, *flags: str) -> Run:
    """Train in ``folder`` by MACE's ``run``; later flags override earlier ones."""
    from mace.cli.run_train import run
    from mace.tools import build_default_arg_parser

    folder.mkdir(parents=True, exist_ok=True)
    with mace_process(folder):
        run(build_default_arg_parser().parse_args(arguments(folder, *flags)))
    return Run(folder)


@contextlib.contextmanager
def mace_process(folder: Path) -> Iterator[None]:
    """What a process of its own would give MACE: a folder, a logger, a dtype, random states."""
    before, dtype = Path.cwd(), torch.get_default_dtype()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        torch.set_default_dtype(dtype)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        for handler in root.handlers[:]:
            if handler not in handlers:
                root.removeHandler(handler)
                handler.close()
        root.setLevel(level)
