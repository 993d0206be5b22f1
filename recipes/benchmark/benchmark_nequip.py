"""A case of the benchmark as a call of ``nequip-train``."""

from __future__ import annotations

import math
from pathlib import Path

from mace_weak.command.propose import override, per_type
from recipes.benchmark.benchmark_cases import SCRATCH, Case, Data, Foundation, Method
from recipes.benchmark.benchmark_data import Files
from recipes.quickstart import nequip_host

LONGER = 3  # epochs of a foundation model, for one of MACE's
MODEL_SUFFIX = nequip_host.MODEL_SUFFIX
PACKAGES = ("mace-weak", "nequip", "torch")
SUPERVISED = "weighted"  # MACE's name of the supervised loss in ``cases.yaml``
FOUNDATION = "molecules"  # the configurations of the quickstart have its elements


def refused(method: Method, data: Data) -> str | None:
    """Why a case cannot be trained here; None if it can."""
    others = {key for key in method.flags if key != "loss" and not key.startswith("weak_")}
    if method.labels != "energies" or others or method.foundation == SCRATCH:
        return "the method is declared for MACE"
    if data.foundation != FOUNDATION:
        return f"there is no configuration for the foundation model '{data.foundation}'"
    return None


def train_foundation(out: Path, name: str, source: Foundation, *, device: str, threads: int) -> str:
    return nequip_host.train_foundation(
        out,
        Path(source.train.file),
        name=f"foundation-{name}",
        epochs=LONGER * source.epochs,
        device=device,
        threads=threads,
    )


def model_file(model: str) -> str:
    """The model itself: only MACE's have names."""
    return model


class Training:
    """The command of one case, and its model."""

    def __init__(
        self,
        case: Case,
        *,
        method: Method,
        data: Data,
        files: Files,
        source: Foundation,
        foundation: str,
        anchor: str | None = None,
        device: str,
    ) -> None:
        self.epochs = max(1, round(case.steps / math.ceil(files.n_train / data.batch_size)))
        shifts = nequip_host.estimated_shifts(foundation, files.train, device=device)
        options = {**method.flags, **({"weak_anchor": anchor} if anchor else {})}
        self.loss = loss = options.pop("loss")
        self.overrides = [
            override("package", foundation),
            override("train_file", files.train),
            "~data.split_dataset",
            override("+data.train_file_path", files.train),
            override("+data.val_file_path", files.valid),
            f"data.seed={case.seed}",
            f"data.train_dataloader.batch_size={data.batch_size}",
            f"shifts={per_type(shifts)}",
            f"training_module.optimizer.lr={case.lr}",
            # the learning rate falls alike, however many epochs the steps are
            f"training_module.lr_scheduler.scheduler.gamma={0.96 ** (100 / self.epochs):.6f}",
            f"trainer.accelerator={nequip_host.accelerator(device)}",
            *nequip_host.loss_overrides(None if loss == SUPERVISED else loss, options),
        ]

    def command(self) -> list[str]:
        return nequip_host.train_command(nequip_host.FINETUNE, *self.overrides, epochs=self.epochs)

    def measured(self, model: Path) -> dict[str, float]:
        """Nothing beside the errors."""
        return {}

    def run(self, out: Path) -> Path:
        """Train, or take the model of an earlier call; returns the last checkpoint."""
        return nequip_host.nequip_train(
            out, "case", nequip_host.FINETUNE, *self.overrides, epochs=self.epochs, threads=1,
            loss=self.loss, quiet=True, product=nequip_host.LAST,
        )  # fmt: skip
