"""A fine-tuning in closed form of a nequip model: what the command needs of nequip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from mace_weak.errors import WeakLossError
from mace_weak.nequip import configuration
from mace_weak.nequip.graphs import Graph
from mace_weak.nequip.saved import SHIFTS, SavedModel
from mace_weak.nequip.tangent import ParametricModel
from mace_weak.nequip.teaching import CLIP, FORCES_WEIGHT, distilling
from mace_weak.structures import bare
from mace_weak.tangent.storage import replacing
from mace_weak.tangent.teaching import Task

__all__ = ["distilling"]  # one of what the command needs

COMMAND = "nequip-train"
MISSING_AS_NAN = True
SUFFIXES = (configuration.CHECKPOINT,)
NAME, RESTART = "finetuned", "restart"
PRODUCT = f"{NAME}.ckpt"
EPOCH = re.compile(r"Epoch (\d+):")


def save_foundation(path: str, folder: Path, *, head: str | None, device: str) -> Path:
    """The foundation model itself: checkpoints of a fine-tuning refer to its file.

    Raises:
        WeakLossError: if it is compiled, or a head is named.
    """
    if head is not None:
        raise WeakLossError("--head has no effect: nequip's models have no heads")
    configuration.require_trainable(path)
    return Path(path)


def parametric_model(saved: SavedModel, frames: Sequence[Atoms]) -> ParametricModel:
    """The model as a function of its parameters, on some structures.

    Raises:
        WeakLossError: if it has no energies of the atoms that can be changed.
    """
    # nequip changes them only in a model with scales
    fixed = _has_one_for_all(saved) and not getattr(saved.shifting, "has_scales", True)
    if saved.shifting is None or fixed:
        raise WeakLossError(
            "the model has no energies of the atoms of each type (per_type_energy_shifts), which "
            "take it to another level of theory: take a foundation model that has them"
        )
    graphs = graphs_of(saved, frames)
    return ParametricModel(saved.calculator.model, graphs, device=saved.calculator.device)


def graphs_of(saved: SavedModel, frames: Sequence[Atoms]) -> list[Graph]:
    """Structures as the model reads them, without labels, some of which nequip would refuse."""
    return [saved.calculator.atoms_to_data(bare(atoms)) for atoms in frames]


def distilling_arguments(saved: SavedModel, task: Task) -> list[str]:
    """Arguments of ``nequip-train`` that write ``PRODUCT`` into the folder of the task.

    All types and atomic energies of the foundation model stay as they are. A run that was stopped
    goes on from its last checkpoint.
    """
    loss = configuration.energies_and_forces(forces=FORCES_WEIGHT)
    return _configured(saved, task, loss, kind="nequip.train.EMALightningModule")


def arguments_on_labels(saved: SavedModel, task: Task, *, anchored: bool) -> list[str]:
    """Arguments of ``nequip-train`` for the labels themselves; the last model is the result.

    With the anchored Taylor loss, or with that at a weight of zero, which is nequip's own.
    """
    loss: dict[str, Any] = {
        "_target_": "mace_weak.nequip.train.WeakTaylorLoss",
        "coeffs": {"total_energy": 1.0},
    }
    if task.forces:
        loss["coeffs"]["forces"] = 1.0
        loss["ignore_nan"] = {"total_energy": True, "forces": True}
    if not anchored:
        loss |= {"weak_taylor_weight": 0, "weak_anchor": "none"}
    return _configured(saved, task, loss, kind="mace_weak.nequip.train.WeakEMALightningModule")


def _configured(saved: SavedModel, task: Task, loss: Mapping[str, Any], *, kind: str) -> list[str]:
    """Write the configuration into the folder of the task; returns how to call it."""
    files = {"train_file_path": str(task.train), "val_file_path": str(task.valid)}
    schedule, restart = task.schedule, task.folder / f"{RESTART}.ckpt"
    checkpoints = {NAME: schedule.epochs}
    if schedule.epochs > 1:  # Lightning refuses two checkpoints of the same epochs
        checkpoints[RESTART] = 1
    config = {
        "run": ["train"],
        "hydra": {"run": {"dir": str(task.folder / "logs")}},
        "data": configuration.data_module(
            saved, files, batch_size=schedule.batch_size, seed=task.seed
        ),
        "trainer": configuration.trainer(
            task.folder,
            checkpoints,
            epochs=schedule.epochs,
            device=task.device,
            clip=CLIP,
        ),
        "training_module": configuration.training_module(
            _with_atomic_energies(saved, task.foundation),
            loss,
            lr=schedule.lr,
            decay=schedule.decay,
            forces=task.forces,
            kind=kind,
            ema_decay=0.99,
        ),
    }
    if restart.is_file():
        config["ckpt_path"] = str(restart)
    return configuration.written(task.folder, config)


def _with_atomic_energies(saved: SavedModel, foundation: Path) -> dict[str, Any]:
    """The foundation model, with an energy for each type of atom where it has one for all."""
    model = configuration.model_from(foundation)
    if not _has_one_for_all(saved):
        return model
    modifier = {"modifier": "modify_PerTypeScaleShift", "shifts": dict(saved.atomic_energies or {})}
    return {"_target_": "nequip.model.modify", "modifiers": [modifier], "model": model}


def _has_one_for_all(saved: SavedModel) -> bool:
    """Whether the atoms of all types have one energy."""
    return saved.shifting is not None and len(saved.shifting.shifts) < len(saved.elements)


def save_product(folder: Path, out: Path, shifts: Mapping[str, float]) -> None:
    """The trained checkpoint with the atoms' energies at the new level, as the file ``out``.

    ``shifts`` in eV are by type. They are in all copies of the model that the checkpoint has.
    """
    checkpoint = torch.load(folder / PRODUCT, map_location="cpu", weights_only=False)
    state = checkpoint["state_dict"]
    for name in [name for name in state if name.endswith(f"{SHIFTS}.shifts")]:
        moves = torch.tensor(list(shifts.values())).to(state[name]).view_as(state[name])
        state[name] = state[name] + moves
    with replacing(out) as partial:
        torch.save(checkpoint, partial)
