"""A case of the benchmark as a call of ``mace_run_train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mace_weak.losses import LOSSES
from recipes.benchmark.benchmark_cases import HERE, SCRATCH, Case, Data, Foundation, Method
from recipes.benchmark.benchmark_data import Files, some_of
from recipes.quickstart import mace_host

MODEL_SUFFIX = mace_host.MODEL_SUFFIX
model_file = mace_host.model_file
PACKAGES = ("mace-weak", "mace-torch", "torch")
MODEL_SETTINGS = (
    "model", "hidden_irreps", "MLP_irreps", "max_ell", "correlation", "num_radial_basis", "r_max",
    "scaling",
)  # fmt: skip


def refused(method: Method, data: Data) -> str | None:
    """Why a case cannot be trained here: MACE takes all."""
    return None


def train_foundation(out: Path, name: str, source: Foundation, *, device: str, threads: int) -> str:
    return mace_host.train_foundation(
        out,
        Path(source.train.file),
        config=(HERE / source.config).resolve(),
        name=f"foundation-{name}",
        flags=[f"--{key}={value}" for key, value in source.flags.items()],
        epochs=source.epochs,
        device=device,
        threads=threads,
    )


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
        structures = files.n_train + method.replayed
        batch_size = min(data.batch_size, structures)
        # MACE drops what does not fill a batch
        self.epochs = max(1, round(case.steps / (structures // batch_size)))
        self.two_heads = bool(method.replayed)
        flags: dict[str, Any] = {
            "train_file": files.train,
            "valid_file": files.valid,
            "batch_size": batch_size,
            "lr": case.lr,
            # the learning rate falls alike, however many epochs the steps are
            "lr_scheduler_gamma": f"{0.96 ** (100 / self.epochs):.6f}",
            "seed": case.seed,
            "device": device,
        }
        if foundation == SCRATCH:
            settings = yaml.safe_load((HERE / source.config).read_text())
            flags |= {key: settings[key] for key in MODEL_SETTINGS} | {"E0s": "average"}
        else:
            flags["foundation_model"] = foundation
        if anchor:
            flags["weak_anchor"] = anchor
        if method.replayed:  # MACE would take all of a file
            replay = some_of(
                Path(source.train.file), method.replayed, files.train.parent, case.seed
            )
            flags |= {"pt_train_file": replay, "pt_valid_file": replay}
        self.loss = method.flags.get("loss")
        flags |= {**data.flags, **method.flags}
        of_mace = self.loss and self.loss not in LOSSES
        if of_mace and foundation != SCRATCH and not self.two_heads:
            flags |= mace_host.supervised(self.loss, foundation, files.train)
        self.flags = [
            *(
                f"--{name}" if value is None else f"--{name}={value}"
                for name, value in flags.items()
            ),
            *mace_host.last_model(self.epochs),
        ]

    def command(self) -> list[str]:
        return mace_host.train_command(mace_host.FINETUNE, *self.flags, epochs=self.epochs)

    def measured(self, model: Path) -> dict[str, float]:
        """Nothing beside the errors."""
        return {}

    def run(self, out: Path) -> Path:
        """Train, or take the model of an earlier call; returns the model file."""
        return mace_host.mace_run_train(
            out, "case", mace_host.FINETUNE, *self.flags, epochs=self.epochs, threads=1,
            loss=self.loss, quiet=True,
        )  # fmt: skip
