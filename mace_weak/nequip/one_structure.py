"""Fine-tuning a nequip model on one structure, by nequip's own command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mace_weak.errors import WeakLossError
from mace_weak.nequip.saved import COMPILED_SUFFIXES, SavedModel

COMMAND = "nequip-train"
NAME = "softened"
PRODUCT = f"{NAME}.ckpt"


def require_trainable(model: str, saved: SavedModel) -> None:
    """Check that a model can be trained on.

    Raises:
        WeakLossError: if it is compiled.
    """
    if model.endswith(COMPILED_SUFFIXES):
        raise WeakLossError(
            f"'{model}' is compiled and cannot be trained: take the package (.nequip.zip) or "
            "checkpoint (.ckpt) that it was compiled from"
        )


def one_structure_arguments(
    model: str,
    saved: SavedModel,
    structure: Path,
    out: Path,
    *,
    epochs: int,
    lr: float,
    gamma: float,
    device: str,
) -> list[str]:
    """Arguments of ``nequip-train`` that write ``PRODUCT`` into ``out``.

    ``structure`` is an extended XYZ file of one structure, whose ``REF_energy`` is on the model's
    own level. The learning rate falls by ``gamma`` in each epoch. The configuration that they name
    is written to ``out``.
    """
    config = {
        "run": ["train"],
        "hydra": {"run": {"dir": str(out)}},
        "data": _data(saved, structure),
        "trainer": _trainer(out, epochs=epochs, device=device),
        "training_module": _training_module(model, lr=lr, gamma=gamma),
    }
    (out / "config.yaml").write_text(json.dumps(config, indent=2))
    return ["-cp", str(out), "-cn", "config"]


def _data(saved: SavedModel, structure: Path) -> dict[str, Any]:
    return {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": 1,
        "train_file_path": str(structure),
        "val_file_path": str(structure),
        "key_mapping": {"REF_energy": "total_energy", "REF_forces": "forces"},
        "transforms": [
            {
                "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                "model_type_names": list(saved.elements),
            },
            {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": saved.cutoff},
        ],
        "train_dataloader": {"batch_size": 1},
        "val_dataloader": {"batch_size": 1},
    }


def _trainer(out: Path, *, epochs: int, device: str) -> dict[str, Any]:
    return {
        "_target_": "lightning.Trainer",
        "accelerator": "gpu" if device.startswith("cuda") else device,
        "devices": 1,
        "max_epochs": epochs,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(out)},
        "callbacks": [
            {  # without a monitor: the last model
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "dirpath": str(out),
                "filename": NAME,
                "enable_version_counter": False,
            }
        ],
    }


def _training_module(model: str, *, lr: float, gamma: float) -> dict[str, Any]:
    checkpoint = model.endswith(".ckpt")
    builder = "ModelFromCheckpoint" if checkpoint else "ModelFromPackage"
    path = "checkpoint_path" if checkpoint else "package_path"
    return {
        "_target_": "nequip.train.NequIPLightningModule",
        "loss": {
            "_target_": "nequip.train.EnergyForceLoss",
            "coeffs": {"total_energy": 1.0, "forces": 1.0},
        },
        "val_metrics": {
            "_target_": "nequip.train.EnergyForceMetrics",
            "coeffs": {"per_atom_energy_rmse": 1.0, "forces_rmse": 1.0},
        },
        "optimizer": {"_target_": "torch.optim.Adam", "lr": lr},
        "lr_scheduler": {
            "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": gamma},
            "interval": "epoch",
        },
        "model": {"_target_": f"nequip.model.{builder}", path: str(Path(model).resolve())},
    }
