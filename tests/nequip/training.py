"""Real trainings by ``nequip-train``'s own main, in this process, and what they leave behind."""

from __future__ import annotations

import contextlib
import csv
import random
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from mace_weak.losses import LOSSES as TABLE

Config = dict[str, Any]
MOLECULE_TYPES = ["H", "C", "N", "O"]
CUTOFF = 4.0
ETHANOL_SHIFTS = {"H": -467.0, "C": -467.0, "N": 0.0, "O": -467.0}  # roughly, eV
QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")
MODULES = {
    "nequip.train.NequIPLightningModule": "mace_weak.nequip.train.WeakLightningModule",
    "nequip.train.EMALightningModule": "mace_weak.nequip.train.WeakEMALightningModule",
    "nequip.train.ScheduleFreeLightningModule": (
        "mace_weak.nequip.train.WeakScheduleFreeLightningModule"
    ),
}
LOSSES = {name: f"mace_weak.nequip.train.{loss.class_name}" for name, loss in TABLE.items()}


@dataclass(frozen=True)
class Run:
    """What a training run left in its folder."""

    folder: Path

    @property
    def rows(self) -> list[dict[str, float]]:
        """The rows of Lightning's log, without its empty cells."""
        with (self.folder / "log" / "metrics.csv").open() as file:
            return [
                {name: float(value) for name, value in row.items() if value != ""}
                for row in csv.DictReader(file)
            ]

    @property
    def steps(self) -> list[dict[str, float]]:
        """The training loss and its parts in each step."""
        prefix = "train_loss_step/"
        return [
            {name.removeprefix(prefix): value for name, value in row.items()}
            for row in self.rows
            if f"{prefix}weighted_sum" in row
        ]

    def column(self, name: str) -> list[float]:
        return [step[name] for step in self.steps]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def checkpoint_of(self, epoch: int) -> Path:
        return self.checkpoint.with_name(f"epoch-{epoch}.ckpt")

    @property
    def state(self) -> Config:
        return torch.load(self.checkpoint, weights_only=False)

    @property
    def parameters(self) -> Tensor:
        weights = self.state["state_dict"]
        return torch.cat(
            [value.double().flatten() for key, value in weights.items() if key.startswith("model.")]
        )


def base_config(
    train_file: Path,
    *,
    types: Sequence[str] = MOLECULE_TYPES,
    labels: Sequence[str] = ("total_energy", "forces"),
    module: str = "nequip.train.NequIPLightningModule",
) -> Config:
    """A small model from scratch, with nequip's own loss of the ``labels``."""
    keys = {"total_energy": "REF_energy", "forces": "REF_forces", "stress": "REF_stress"}
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 1,
            "split_dataset": {"file_path": str(train_file), "train": 0.7, "val": 0.3},
            "key_mapping": {keys[label]: label for label in labels},
            "transforms": [
                {
                    "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                    "model_type_names": list(types),
                },
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": CUTOFF},
            ],
            "train_dataloader": {"batch_size": 4, "shuffle": True},
            "val_dataloader": {"batch_size": 4},
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": 2,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "_target_": "lightning.pytorch.loggers.CSVLogger",
                "save_dir": "${hydra:runtime.output_dir}",
                "name": "log",
                "version": "",
            },
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": "${hydra:runtime.output_dir}/checkpoints",
                    "filename": "epoch-{epoch}",
                    "auto_insert_metric_name": False,
                    "save_top_k": -1,
                    "save_last": True,
                }
            ],
        },
        "training_module": {
            "_target_": module,
            "loss": {
                "_target_": "nequip.train.MetricsManager",
                "metrics": [supervised_metric(label) for label in labels],
            },
            "val_metrics": {
                "_target_": "nequip.train.EnergyOnlyMetrics",
                "coeffs": {"per_atom_energy_rmse": 1.0},
            },
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "model": scratch_model(types),
        },
    }


def supervised_metric(label: str) -> Config:
    energy = label == "total_energy"
    field = {"_target_": "nequip.data.PerAtomModifier", "field": label} if energy else label
    return {
        "name": "per_atom_energy_mse" if energy else f"{label}_mse",
        "field": field,
        "coeff": 1.0,
        "metric": {"_target_": "nequip.train.MeanSquaredError"},
    }


def scratch_model(types: Sequence[str]) -> Config:
    return {
        "_target_": "nequip.model.NequIPGNNModel",
        "seed": 1,
        "model_dtype": "float32",
        "type_names": list(types),
        "r_max": CUTOFF,
        "num_layers": 2,
        "l_max": 1,
        "parity": False,
        "num_features": 4,
        "radial_mlp_width": 8,
        "avg_num_neighbors": 5.0,
        "per_type_energy_scales": 2.0,
        "per_type_energy_shifts": 0.0,
    }


def weak_config(config: Config, name: str = "weak_taylor", **options: Any) -> Config:
    """``config`` with the two targets changed to weak ones, and the weak ``options``."""
    weak = deepcopy(config)
    module = weak["training_module"]
    coeffs = {metric_label(metric): metric["coeff"] for metric in module["loss"]["metrics"]}
    module["_target_"] = MODULES[module["_target_"]]
    module["loss"] = {"_target_": LOSSES[name], "coeffs": coeffs, **options}
    return weak


def metric_label(metric: Config) -> str:
    field = metric["field"]
    return field["field"] if isinstance(field, dict) else field


def changed(config: Config, **changes: Any) -> Config:
    """``config`` with changes, named by their path with ``__`` for dots."""
    result = OmegaConf.create(deepcopy(config))
    for path, value in changes.items():
        OmegaConf.update(result, path.replace("__", "."), value, merge=False, force_add=True)
    return OmegaConf.to_container(result)


def write_config(folder: Path, config: Config) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")


def command(folder: Path, *overrides: str) -> list[str]:
    """The command line that trains the configuration in ``folder``."""
    return [
        "nequip-train",
        "-cp",
        str(folder),
        "-cn",
        "config",
        f"hydra.run.dir={folder}",
        *overrides,
    ]


def train(folder: Path, config: Config, *overrides: str) -> Run:
    """Train in ``folder`` by nequip's ``main``."""
    from nequip.scripts.train import main

    write_config(folder, config)
    arguments = ["-cp", str(folder), "-cn", "config", f"hydra.run.dir={folder}"]
    with (
        nequip_process(),
        patch.object(sys, "argv", ["nequip-train", *arguments, *QUIET, *overrides]),
    ):
        main()
    return Run(folder)


@contextlib.contextmanager
def nequip_process() -> Iterator[None]:
    """What a process of its own would give nequip: a resolver, a dtype, random states."""
    dtype = torch.get_default_dtype()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        OmegaConf.clear_resolver("training_data_stats")
        torch.set_default_dtype(dtype)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
