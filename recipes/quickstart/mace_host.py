"""The quickstart's trainings by MACE's own command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from ase.io import read
from mace.calculators import foundations_models

from mace_weak.losses import WITHOUT_TERMS
from recipes.quickstart import processes
from recipes.quickstart.cases import Case

HERE = Path(__file__).parent
MODEL_SUFFIX = ".model"
FOUNDATION_EPOCHS = 20
EPOCH = re.compile(r"Epoch (\d+): head")
FOUNDATION = HERE / "foundation.yaml"
FINETUNE = HERE / "finetune.yaml"


def train_foundation(
    out: Path,
    data: Path,
    *,
    epochs: int,
    device: str,
    threads: int,
    config: Path = FOUNDATION,
    name: str = "foundation",
    flags: Sequence[str] = (),
) -> str:
    return str(
        mace_run_train(
            out,
            name,
            config,
            f"--train_file={data}",
            f"--device={device}",
            *flags,
            epochs=epochs,
            threads=threads,
        )
    )


def supervised(loss: str, foundation: str, structures: Path) -> dict[str, str]:
    """Flags for a loss of MACE's own, with the ``E0s`` that are asked for.

    MACE 0.3.16 loses them where the foundation model has as many elements as the structures. The
    weak losses put them in place, without their terms too.
    """
    elements = {number for atoms in read(structures, ":") for number in atoms.numbers}
    if element_count(foundation) > len(elements):
        return {"loss": loss}
    return {**WITHOUT_TERMS, "weak_base_loss": loss}


@cache
def element_count(model: str) -> int:
    return len(loaded(model_file(model)).atomic_numbers)


def fine_tune(case: Case, foundation: str, options: argparse.Namespace) -> Path:
    loss = {"loss": case.loss} if case.loss else supervised("weighted", foundation, options.train)
    return mace_run_train(
        options.out,
        case.name,
        FINETUNE,
        f"--foundation_model={foundation}",
        f"--train_file={options.train}",
        f"--device={options.device}",
        f"--lr={options.lr}",
        *(f"--{key}={value}" for key, value in (loss | case.options).items()),
        *last_model(options.epochs),
        epochs=options.epochs,
        threads=1,
        loss=case.loss,
    )


def last_model(epochs: int) -> list[str]:
    """Flags that evaluate and save at the start and at the end only: the last model is the result.

    By default MACE takes the model of lowest error in validation, which with a handful of energies
    is chance.
    """
    return [f"--eval_interval={max(1, epochs - 1)}", "--save_all_checkpoints"]


def mace_run_train(
    out: Path,
    name: str,
    config: Path,
    *flags: str,
    epochs: int,
    threads: int,
    loss: str | None = None,
    quiet: bool = False,
) -> Path:
    """Train, or take the model of an earlier call; returns the model file."""
    return processes.trained(
        out,
        name,
        train_command(config, *flags, epochs=epochs),
        config,
        product="model.model",
        place="--work_dir={}".format,
        epochs=epochs,
        epoch=EPOCH,
        threads=threads,
        loss=loss,
        quiet=quiet,
    )


def train_command(config: Path, *flags: str, epochs: int) -> list[str]:
    """All of the command line but the folder."""
    settings = [f"--config={config}", f"--max_num_epochs={epochs}", *flags]
    return ["mace_run_train", "--name=model", *settings]


def model_file(model: str) -> str:
    """The file of a model, or of a foundation model that MACE downloads by that name.

    Raises:
        SystemExit: if there is neither.
    """
    if Path(model).is_file():
        return model
    if model not in foundations_models.mace_mp_urls:
        names = ", ".join(foundations_models.mace_mp_urls)
        raise SystemExit(f"there is no model file '{model}'; by name MACE has {names}")
    return foundations_models.download_mace_mp_checkpoint(model)


def loaded(model: str) -> torch.nn.Module:
    with processes.LOADING:
        return torch.load(model, weights_only=False, map_location="cpu")
