"""The tangent model carried into a MACE model file, by MACE's own trainer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import write
from mace.tools.scripts_utils import remove_pt_head

from mace_weak.errors import WeakLossError
from mace_weak.mace.saved import SavedModel, graphs_of, raw_model
from mace_weak.mace.tangent import ParametricModel, Predicted
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.teaching import Course, lessons

COMMAND = "mace_run_train"
NAME = "finetuned"
PRODUCT = f"{NAME}.model"
FOUNDATION, LESSONS, VALIDATION = "foundation.model", "lessons.xyz", "validation.xyz"
EPOCH = re.compile(r"Epoch (\d+): head")
LABELS = "labels.xyz"
N_VALIDATION = 10  # structures; the tangent model has no noise, so that few can choose the epoch
VALID_FRACTION = 0.1
COPIES = 4  # displaced ones of each structure
LAST_LR = 0.02  # of the first
MOST_BATCHES = 60  # in an epoch, so that large sets have large batches
STEPS = 900
ANCHORED_STEPS = 800
ANCHORED_BATCH = 5
ANCHORED_LR = 0.001


@dataclass(frozen=True, kw_only=True)
class Distilling:
    """How MACE's trainer takes the tangent model over."""

    epochs: int
    batch_size: int
    lr: float = 0.002


def distilling(n_lessons: int) -> Distilling:
    """Settings for so many structures to learn from."""
    batch_size = max(5, -(-n_lessons // MOST_BATCHES))
    return Distilling(epochs=max(1, round(STEPS * batch_size / n_lessons)), batch_size=batch_size)


def anchored_training(n_structures: int) -> Distilling:
    """Settings of the training on the labels themselves, of so many structures."""
    n_train = max(1, n_structures - max(1, round(VALID_FRACTION * n_structures)))
    batch_size = max(1, min(ANCHORED_BATCH, n_train))
    epochs = max(1, round(ANCHORED_STEPS / (n_train // batch_size)))
    return Distilling(epochs=epochs, batch_size=batch_size, lr=ANCHORED_LR)


def save_foundation(path: str, copy: Path, *, head: str | None, device: str) -> None:
    """Write the foundation model, with the one head that is trained, to the file ``copy``.

    Raises:
        WeakLossError: if there is no such model, or no such head.
    """
    model = one_head(raw_model(path, device=device), path, head)
    partial = copy.with_name(f"{copy.name}.part")
    torch.save(model, partial)
    os.replace(partial, copy)


def one_head(model: torch.nn.Module, path: str, head: str | None) -> torch.nn.Module:
    """The model with the one head that is to be trained.

    Raises:
        WeakLossError: if the model has several heads and none, or an unknown one, is named.
    """
    heads = list(getattr(model, "heads", None) or ["Default"])
    if head is not None and head not in heads:
        raise WeakLossError(f"'{path}' has no head {head}: its heads are {', '.join(heads)}")
    if len(heads) == 1:
        return model
    if head is None:
        raise WeakLossError(
            f"'{path}' has the heads {', '.join(heads)}: name the one to fine-tune by --head"
        )
    before = torch.get_default_dtype()
    torch.set_default_dtype(next(model.parameters()).dtype)
    try:
        return remove_pt_head(model, head)
    finally:
        torch.set_default_dtype(before)


def parametric_model(saved: SavedModel, frames: Sequence[Atoms]) -> ParametricModel:
    """The model as a function of its parameters, on some structures."""
    device = next(saved.model.parameters()).device
    return ParametricModel(saved.model, graphs_of(saved, frames), device=device)


def write_lessons(
    folder: Path,
    frames: Sequence[Atoms],
    *,
    model: ParametricModel,
    tangent: Tangent,
    start: Predicted,
    energies: Sequence[float],
    forces: Sequence[np.ndarray | None],
    course: Course,
    progress: Callable[[int], None],
) -> None:
    """Write the structures that MACE's trainer learns from.

    Their energies are at the foundation model's level: ``energies`` (eV, NaN where there is none)
    are those of ``frames``, without the shifts of the atoms' energies.
    """
    taught: list[Atoms] = []
    originals: list[Atoms] = []
    for lesson in lessons(model, tangent, course):
        atoms = frames[lesson.number].copy()
        at_rest = not bool(lesson.displacement.any())
        atoms.positions += lesson.displacement.numpy()
        energy = lesson.energy + start.constants[lesson.number]
        force: Any = lesson.forces.numpy()
        if at_rest:
            label = energies[lesson.number]
            energy = label if np.isfinite(label) else energy
            known = forces[lesson.number]
            force = force if known is None else known
            originals.append(atoms)
            progress(1)
        atoms.info["REF_energy"] = energy
        atoms.arrays["REF_forces"] = force
        taught.append(atoms)
    chosen = np.unique(np.linspace(0, len(originals) - 1, N_VALIDATION).astype(int))
    write(folder / VALIDATION, [originals[place] for place in chosen], format="extxyz")
    partial = folder / f"{LESSONS}.part"
    write(partial, taught, format="extxyz")
    os.replace(partial, folder / LESSONS)


def write_labels(
    folder: Path,
    frames: Sequence[Atoms],
    energies: Sequence[float],
    forces: Sequence[np.ndarray | None],
) -> None:
    """Write the structures with an energy (eV) as MACE reads them by default, with their labels."""
    labelled: list[Atoms] = []
    for atoms, energy, own in zip(frames, energies, forces, strict=True):
        if np.isfinite(energy):
            copy = atoms.copy()
            copy.info["REF_energy"] = energy
            if own is not None:
                copy.arrays["REF_forces"] = own
            labelled.append(copy)
    write(folder / LABELS, labelled, format="extxyz")


def distilling_arguments(
    saved: SavedModel, folder: Path, settings: Distilling, *, device: str, seed: int
) -> list[str]:
    """Arguments of ``mace_run_train`` that write ``PRODUCT`` into ``folder``.

    All elements and atomic energies of the foundation model stay as they are. A run that was
    stopped goes on from its last checkpoint.
    """
    gamma = LAST_LR ** (1 / settings.epochs)
    return [
        *_common(saved, folder, device=device, seed=seed, shifts={}),
        f"--train_file={folder / LESSONS}",
        f"--valid_file={folder / VALIDATION}",
        "--loss=weighted",
        f"--batch_size={settings.batch_size}",
        f"--valid_batch_size={settings.batch_size}",
        f"--max_num_epochs={settings.epochs}",
        "--eval_interval=1",
        f"--lr={settings.lr}",
        f"--lr_scheduler_gamma={gamma:.6f}",
    ]


def anchored_arguments(
    saved: SavedModel,
    folder: Path,
    *,
    shifts: Mapping[str, float],
    settings: Distilling,
    device: str,
    seed: int,
) -> list[str]:
    """Arguments of ``mace_run_train`` with the anchored Taylor loss on the labels themselves.

    The atoms' energies are moved by ``shifts`` (eV); the last model is the result.
    """
    return [
        *_common(saved, folder, device=device, seed=seed, shifts=shifts),
        f"--train_file={folder / LABELS}",
        f"--valid_fraction={VALID_FRACTION}",
        "--loss=weak_taylor",
        f"--batch_size={settings.batch_size}",
        f"--max_num_epochs={settings.epochs}",
        f"--eval_interval={max(1, (settings.epochs - 1) // 10)}",
        "--save_all_checkpoints",
        f"--lr={settings.lr}",
        f"--lr_scheduler_gamma={LAST_LR ** (1 / settings.epochs):.6f}",
    ]


def _common(
    saved: SavedModel, folder: Path, *, device: str, seed: int, shifts: Mapping[str, float]
) -> list[str]:
    """All elements of the foundation model stay; a run that was stopped goes on."""
    energies = {
        atomic_numbers[name]: energy + shifts.get(name, 0.0)
        for name, energy in saved.atomic_energies.items()
    }
    return [
        f"--name={NAME}",
        f"--work_dir={folder}",
        f"--foundation_model={folder / FOUNDATION}",
        "--foundation_model_elements=True",
        "--multiheads_finetuning=False",
        f"--E0s={energies}",
        "--scheduler=ExponentialLR",
        "--ema",
        "--ema_decay=0.99",
        "--restart_latest",
        f"--default_dtype={saved.dtype}",
        f"--device={device}",
        "--error_table=PerAtomRMSE",
        "--plot=False",
        f"--seed={seed}",
    ]


def save_product(folder: Path, out: Path, shifts: Mapping[str, float]) -> None:
    """The trained model with the atoms' energies at the new level, as the file ``out``.

    ``shifts`` in eV are by element.
    """
    model = torch.load(folder / PRODUCT, map_location="cpu", weights_only=False)
    energies = model.atomic_energies_fn.atomic_energies
    numbers = model.atomic_numbers.tolist()
    for symbol, shift in shifts.items():
        energies[..., numbers.index(atomic_numbers[symbol])] += shift
    partial = out.with_name(f"{out.name}.part")
    torch.save(model, partial)
    os.replace(partial, out)
