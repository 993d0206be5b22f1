"""A fine-tuning in closed form of a MACE model: what the command needs of MACE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ase import Atoms
from ase.data import atomic_numbers
from mace.tools.scripts_utils import remove_pt_head

from mace_weak.errors import WeakLossError
from mace_weak.mace.kinds import kind_of, require_finetunable
from mace_weak.mace.saved import SavedModel, graphs_of, raw_model
from mace_weak.mace.tangent import ParametricModel
from mace_weak.tangent.storage import replacing
from mace_weak.tangent.teaching import Task, distilling

__all__ = ["distilling", "graphs_of"]  # two of what the command needs

COMMAND = "mace_run_train"
MISSING_AS_NAN = False
SUFFIXES: Sequence[str] = ()  # any name will do
NAME = "finetuned"
PRODUCT = f"{NAME}.model"
FOUNDATION = "foundation.model"
EPOCH = re.compile(r"Epoch (\d+): head")


def save_foundation(path: str, folder: Path, *, head: str | None, device: str) -> Path:
    """Write the foundation model, with the one head that is trained, into ``folder``.

    Raises:
        WeakLossError: if there is no such model, or no such head.
    """
    copy = folder / FOUNDATION
    if not copy.is_file():
        model = one_head(raw_model(path, device=device), path, head)
        require_finetunable(model, path, kind=kind_of(model))
        with replacing(copy) as partial:
            torch.save(model, partial)
    return copy


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


def distilling_arguments(saved: SavedModel, task: Task) -> list[str]:
    """Arguments of ``mace_run_train`` that write ``PRODUCT`` into the folder of the task.

    All elements and atomic energies of the foundation model stay as they are. A run that was
    stopped goes on from its last checkpoint.
    """
    return [
        *_common(saved, task),
        "--loss=weighted",
        f"--valid_batch_size={task.schedule.batch_size}",
        "--eval_interval=1",
    ]


def arguments_on_labels(saved: SavedModel, task: Task, *, anchored: bool) -> list[str]:
    """Arguments of ``mace_run_train`` for the labels themselves; the last model is the result.

    With the anchored Taylor loss or MACE's own. As with ``distilling_arguments``, atomic energies
    stay and a stopped run goes on.
    """
    return [
        *_common(saved, task),
        f"--loss={'weak_taylor' if anchored else 'weighted'}",
        f"--eval_interval={max(1, (task.schedule.epochs - 1) // 10)}",
        "--save_all_checkpoints",
    ]


def _common(saved: SavedModel, task: Task) -> list[str]:
    """All elements of the foundation model stay; a run that was stopped goes on."""
    energies = {atomic_numbers[name]: energy for name, energy in saved.atomic_energies.items()}
    return [
        f"--name={NAME}",
        f"--work_dir={task.folder}",
        f"--foundation_model={task.foundation}",
        *saved.training_flags,
        "--foundation_model_elements=True",
        "--multiheads_finetuning=False",
        f"--E0s={energies}",
        f"--train_file={task.train}",
        f"--valid_file={task.valid}",
        f"--batch_size={task.schedule.batch_size}",
        f"--max_num_epochs={task.schedule.epochs}",
        f"--lr={task.schedule.lr}",
        "--scheduler=ExponentialLR",
        f"--lr_scheduler_gamma={task.schedule.decay:.6f}",
        "--ema",
        "--ema_decay=0.99",
        "--restart_latest",
        f"--default_dtype={saved.dtype}",
        f"--device={task.device}",
        "--error_table=PerAtomRMSE",
        "--plot=False",
        f"--seed={task.seed}",
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
    with replacing(out) as partial:
        torch.save(model, partial)
