"""The quickstart's trainings and tests by nequip's own commands."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import processes
from ase import Atoms
from ase.io import read
from cases import Case

from mace_weak.nequip.train import LOSS_CLASSES

HERE = Path(__file__).parent
EPOCH = re.compile(r"Epoch (\d+):")
TYPES = ("H", "C", "N", "O")
PLAIN = (
    "training_module._target_=nequip.train.EMALightningModule",
    "training_module.loss._target_=nequip.train.EnergyOnlyLoss",
    "~training_module.loss.coeffs",
    "~training_module.loss.weak_anchor",
)


def train_foundation(options: argparse.Namespace) -> str:
    """Train a foundation model and package it."""
    shifts = labelled_atomic_energies(options.foundation_data)
    checkpoint = nequip_train(
        options.out,
        "foundation",
        HERE / "nequip_foundation.yaml",
        f"train_file={options.foundation_data}",
        f"shifts={per_type(shifts)}",
        f"trainer.accelerator={accelerator(options.device)}",
        epochs=options.foundation_epochs,
        threads=options.processes,
    )
    package = checkpoint.with_name("foundation.nequip.zip")
    if not package.exists():
        run("nequip-package", "build", checkpoint, package)
    return str(package)


def fine_tune(case: Case, foundation: str, options: argparse.Namespace) -> Path:
    shifts = estimated_shifts(
        foundation, options.foundation_data, options.train, device=options.device
    )
    if case.loss is None:
        loss: Sequence[str] = PLAIN
    else:
        given = {"_target_": f"mace_weak.nequip.train.{LOSS_CLASSES[case.loss]}", **case.options}
        loss = [f"++training_module.loss.{key}={value}" for key, value in given.items()]
    return nequip_train(
        options.out,
        case.name,
        HERE / "nequip_finetune.yaml",
        f"package={foundation}",
        f"train_file={options.train}",
        f"shifts={per_type(shifts)}",
        f"training_module.optimizer.lr={options.lr}",
        f"trainer.accelerator={accelerator(options.device)}",
        *loss,
        epochs=options.epochs,
        threads=1,
    )


def nequip_train(
    out: Path, name: str, config: Path, *overrides: str, epochs: int, threads: int
) -> Path:
    """Train, or take the model of an earlier call; returns the best checkpoint."""
    settings = ["-cp", str(config.parent), "-cn", config.stem, f"trainer.max_epochs={epochs}"]
    return processes.trained(
        out,
        name,
        ["nequip-train", *settings, *overrides],
        config,
        product="best.ckpt",
        folder_flag="hydra.run.dir",
        epochs=epochs,
        epoch=EPOCH,
        threads=threads,
    )


def predict(model: str, structures: Path, device: str) -> list[Atoms]:
    """The structures with ``predicted_energy`` (eV) and ``predicted_forces`` (eV/Å).

    By a test run of nequip.
    """
    packaged = model.endswith(".nequip.zip")
    builder, argument = (
        ("ModelFromPackage", "package_path")
        if packaged
        else ("ModelFromCheckpoint", "checkpoint_path")
    )
    frames = read(structures, ":")
    with tempfile.TemporaryDirectory() as folder:
        run(
            "nequip-train", "-cp", HERE, "-cn", "nequip_test", f"hydra.run.dir={folder}",
            f"test_file={structures}", f"trainer.accelerator={accelerator(device)}",
            f"training_module.model._target_=nequip.model.{builder}",
            f"+training_module.model.{argument}={model}",
        )  # fmt: skip
        predicted = read(Path(folder) / "predicted_dataset0.xyz", ":")
    for atoms, result in zip(frames, predicted, strict=True):
        atoms.info["predicted_energy"] = result.get_potential_energy()
        atoms.arrays["predicted_forces"] = result.get_forces()
    return frames


@cache
def estimated_shifts(
    foundation: str, foundation_data: Path, train: Path, *, device: str
) -> dict[str, float]:
    """The foundation's atomic energies, moved to the level of theory of the training energies."""
    frames = predict(foundation, train, device)
    own = labelled_atomic_energies(foundation_data)
    missing = [atoms.info["REF_energy"] - atoms.info["predicted_energy"] for atoms in frames]
    correction = atomic_energies(frames, missing)
    return {name: own[name] + correction[name] for name in TYPES}


def labelled_atomic_energies(structures: Path) -> dict[str, float]:
    """``atomic_energies`` of a file's own energies."""
    frames = read(structures, ":")
    return atomic_energies(frames, [atoms.info["REF_energy"] for atoms in frames])


def atomic_energies(frames: Sequence[Atoms], energies: Sequence[float]) -> dict[str, float]:
    """Energies of the atoms, eV, that give ``energies`` best; the smallest of equally good ones."""
    counts = np.array([[atoms.symbols.count(name) for name in TYPES] for atoms in frames])
    solution = np.linalg.lstsq(counts.astype(float), np.array(energies), rcond=None)[0]
    return dict(zip(TYPES, solution.tolist(), strict=True))


def per_type(values: dict[str, float]) -> str:
    """As Hydra's command line takes a mapping."""
    return "{" + ", ".join(f"{name}: {value:.6f}" for name, value in values.items()) + "}"


def accelerator(device: str) -> str:
    return "gpu" if device.startswith("cuda") else device


def run(program: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [processes.SCRIPTS / program, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{program} failed:\n{done.stderr[-3000:]}")
