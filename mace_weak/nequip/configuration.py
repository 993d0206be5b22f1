"""Parts of a configuration of ``nequip-train``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mace_weak.errors import WeakLossError
from mace_weak.nequip.saved import COMPILED_SUFFIXES, SavedModel
from mace_weak.versions import NEQUIP_NET

# labels in the files that mace-weak writes, and nequip's names of them
KEY_MAPPING = {"REF_energy": "total_energy", "REF_forces": "forces"}
CHECKPOINT = ".ckpt"
NAME = "config"


def require_trainable(model: str) -> None:
    """Check that a model file can be trained on.

    Raises:
        WeakLossError: if it is compiled, or not a file.
    """
    if model.startswith(NEQUIP_NET):
        raise WeakLossError(
            f"nequip trains from files: download the package '{model.removeprefix(NEQUIP_NET)}' "
            "from https://www.nequip.net and give its path"
        )
    if model.endswith(COMPILED_SUFFIXES):
        raise WeakLossError(
            f"'{model}' is compiled and cannot be trained: take the package (.nequip.zip) or "
            "checkpoint (.ckpt) that it was compiled from"
        )


def written(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Write a configuration; returns the arguments that name it."""
    (folder / f"{NAME}.yaml").write_text(json.dumps(config, indent=2))
    return ["-cp", str(folder), "-cn", NAME]


def model_from(path: Path) -> dict[str, Any]:
    """The model in a package or checkpoint."""
    checkpoint = path.name.endswith(CHECKPOINT)
    builder = "ModelFromCheckpoint" if checkpoint else "ModelFromPackage"
    argument = "checkpoint_path" if checkpoint else "package_path"
    return {"_target_": f"nequip.model.{builder}", argument: str(path.resolve())}


def data_module(
    saved: SavedModel, files: Mapping[str, Any], *, batch_size: int, seed: int
) -> dict[str, Any]:
    """Structures of ``files``, as the model reads them."""
    return {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": seed,
        **files,
        "key_mapping": KEY_MAPPING,
        "transforms": [
            {
                "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                "model_type_names": list(saved.elements),
            },
            {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": saved.cutoff},
        ],
        "train_dataloader": {"batch_size": batch_size, "shuffle": True},
        "val_dataloader": {"batch_size": batch_size},
    }


def trainer(
    folder: Path,
    checkpoints: Mapping[str, int],
    *,
    epochs: int,
    device: str,
    clip: float | None = None,
) -> dict[str, Any]:
    """A training whose last model is saved under each name, after every so many epochs.

    ``clip`` is the longest gradient that counts as it is.
    """
    return {
        "_target_": "lightning.Trainer",
        "accelerator": "gpu" if device.startswith("cuda") else device,
        "devices": 1,
        "max_epochs": epochs,
        "gradient_clip_val": clip,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(folder)},
        "callbacks": [
            {  # without a monitor: the last model
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "dirpath": str(folder),
                "filename": name,
                "every_n_epochs": every,
                "enable_version_counter": False,
            }
            for name, every in checkpoints.items()
        ],
    }


def training_module(
    model: Mapping[str, Any],
    loss: Mapping[str, Any],
    *,
    lr: float,
    decay: float,
    forces: bool = True,
    kind: str = "nequip.train.NequIPLightningModule",
    **arguments: Any,
) -> dict[str, Any]:
    """Adam, with a learning rate that falls by ``decay`` in each epoch.

    ``forces`` is whether there are labels of them for the errors that are reported.
    """
    coefficients = {"per_atom_energy_rmse": 1.0} | ({"forces_rmse": 1.0} if forces else {})
    metrics = "EnergyForceMetrics" if forces else "EnergyOnlyMetrics"
    return {
        "_target_": kind,
        **arguments,
        "loss": loss,
        "val_metrics": {"_target_": f"nequip.train.{metrics}", "coeffs": coefficients},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": lr},
        "lr_scheduler": {
            "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": decay},
            "interval": "epoch",
        },
        "model": model,
    }


def energies_and_forces(*, forces: float = 1.0) -> dict[str, Any]:
    """nequip's loss of both, with the weight of the forces relative to the energies per atom."""
    return {
        "_target_": "nequip.train.EnergyForceLoss",
        "coeffs": {"total_energy": 1.0, "forces": forces},
    }
