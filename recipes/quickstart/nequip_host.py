"""The quickstart's trainings by nequip's own commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from ase.io import read

from mace_weak.command.models import Model, load_model
from mace_weak.command.propose import (
    SUPERVISED_ALONE,
    override,
    per_type,
    shape_overrides,
)
from mace_weak.compositions import counts_of, fit_atoms
from mace_weak.losses import LOSSES
from recipes.quickstart import processes
from recipes.quickstart.cases import Case
from recipes.quickstart.evaluate import predicted

HERE = Path(__file__).parent
MODEL_SUFFIX = ".ckpt"
FOUNDATION_EPOCHS = 60
EPOCH = re.compile(r"Epoch (\d+):")
CONFIGURATIONS = Path(str(files("mace_weak.configurations")))
SCRATCH = CONFIGURATIONS / "nequip_scratch.yaml"
FINETUNE = CONFIGURATIONS / "nequip_finetune.yaml"
FOUNDATION_MODEL = tuple(
    f"training_module.model.{name}={value}"
    for name, value in {"num_features": 32, "l_max": 2, "radial_mlp_width": 64}.items()
)
LAST_LR = 0.013  # of the first, of the foundation model
LAST = "last.ckpt"  # with a handful of energies for validation, the best one is chance
VALIDATION = ("data.split_dataset.train=0.8", "data.split_dataset.val=0.2")
TYPES = ("H", "C", "N", "O")


def train_foundation(
    out: Path,
    data: Path,
    *,
    epochs: int,
    device: str,
    threads: int,
    name: str = "foundation",
) -> str:
    """Train a foundation model and package it."""
    checkpoint = nequip_train(
        out,
        name,
        SCRATCH,
        override("train_file", data),
        "data.split_dataset.train=0.95",
        "data.split_dataset.val=0.05",
        *FOUNDATION_MODEL,
        f"training_module.lr_scheduler.scheduler.gamma={LAST_LR ** (1 / epochs):.6g}",
        f"shifts={per_type(labelled_atomic_energies(data))}",
        f"trainer.accelerator={accelerator(device)}",
        epochs=epochs,
        threads=threads,
    )
    package = checkpoint.with_name("foundation.nequip.zip")
    if not package.exists():
        processes.output_of(processes.SCRIPTS / "nequip-package", "build", checkpoint, package)
    return str(package)


def fine_tune(case: Case, foundation: str, options: argparse.Namespace) -> Path:
    shifts = estimated_shifts(foundation, options.train, device=options.device)
    return nequip_train(
        options.out,
        case.name,
        FINETUNE,
        override("package", foundation),
        *shape_overrides(loaded(foundation)),
        override("train_file", options.train),
        *VALIDATION,
        f"shifts={per_type(shifts)}",
        f"training_module.optimizer.lr={options.lr}",
        f"trainer.accelerator={accelerator(options.device)}",
        *loss_overrides(case.loss, case.options),
        epochs=options.epochs,
        threads=1,
        loss=case.loss,
        product=LAST,
    )


def loss_overrides(loss: str | None, options: Mapping[str, object]) -> list[str]:
    """Changes of ``FINETUNE`` for a loss (None: the supervised one alone)."""
    if loss is None:
        return list(SUPERVISED_ALONE)
    given = {"_target_": f"mace_weak.nequip.train.{LOSSES[loss].class_name}", **options}
    return [f"++training_module.loss.{key}={value}" for key, value in given.items()]


def nequip_train(
    out: Path,
    name: str,
    config: Path,
    *overrides: str,
    epochs: int,
    threads: int,
    loss: str | None = None,
    quiet: bool = False,
    product: str = "best.ckpt",
) -> Path:
    """Train, or take the model of an earlier call; returns a checkpoint."""
    return processes.trained(
        out,
        name,
        train_command(config, *overrides, epochs=epochs),
        config,
        product=product,
        place=partial(override, "hydra.run.dir"),
        epochs=epochs,
        epoch=EPOCH,
        threads=threads,
        loss=loss,
        quiet=quiet,
    )


def train_command(config: Path, *overrides: str, epochs: int) -> list[str]:
    """All of the command line but the folder."""
    settings = ["-cp", str(config.parent), "-cn", config.stem, f"trainer.max_epochs={epochs}"]
    return ["nequip-train", *settings, *overrides]


@cache
def loaded(model: str) -> Model:
    """The model in a file, once in a process."""
    with processes.LOADING:
        return load_model(model)


@cache
def estimated_shifts(foundation: str, train: Path, *, device: str) -> dict[str, float]:
    """The foundation's atomic energies, moved to the level of theory of the training energies."""
    frames = predicted(foundation, train, device=device)
    energies = loaded(foundation).atomic_energies or {}
    missing = [atoms.info["REF_energy"] - atoms.info["predicted_energy"] for atoms in frames]
    correction = fit_atoms(counts_of(frames, list(energies)), np.array(missing)).by_element(
        list(energies)
    )
    return {name: energies[name] + correction[name] for name in energies}


def labelled_atomic_energies(structures: Path) -> dict[str, float]:
    """Energies of the atoms, eV, that explain a file's energies best."""
    frames = read(structures, ":")
    energies = np.array([atoms.info["REF_energy"] for atoms in frames])
    return fit_atoms(counts_of(frames, TYPES), energies).by_element(TYPES)


def accelerator(device: str) -> str:
    return "gpu" if device.startswith("cuda") else device
