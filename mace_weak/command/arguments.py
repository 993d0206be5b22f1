"""Options that several subcommands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from mace_weak.errors import WeakLossError

TYPE_KEY = "config_type"  # of a structure's type of configuration


class Method(str, Enum):
    """How structures are chosen."""

    FORCES = "forces"
    RANDOM = "random"


class Precision(str, Enum):
    """Precision of floating-point numbers."""

    SINGLE = "float32"
    DOUBLE = "float64"


def usable(device: str) -> str:
    """The device, if torch can compute on it.

    Raises:
        WeakLossError: if it cannot.
    """
    if ":" in device:
        kind, _, number = device.partition(":")
        raise WeakLossError(
            f"--device={device}: the trainers of MACE and NequIP take no number: set "
            f"CUDA_VISIBLE_DEVICES={number} and give --device={kind}"
        )
    if device != "cpu":
        import torch

        try:
            torch.zeros(1, device=device)
        except Exception as error:  # drivers and builds fail in different ways
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise WeakLossError(
                f"--device={device}: torch cannot compute there ({reason}): mace-weak doctor shows "
                "what it finds"
            ) from error
    return device


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
EnergyKey = Annotated[str, typer.Option(help="Key of the energies (eV) in the files.")]
ForcesKey = Annotated[str, typer.Option(help="Key of the forces (eV/Å).")]
StressKey = Annotated[str, typer.Option(help="Key of the stresses (eV/Å³).")]
Device = Annotated[
    str,
    typer.Option(
        callback=usable,
        help="Where the model runs: cpu or cuda. CUDA_VISIBLE_DEVICES chooses among several GPUs.",
    ),
]
Dtype = Annotated[
    Precision | None, typer.Option(help="Precision of a MACE model; default: as it was saved.")
]
Head = Annotated[str | None, typer.Option(help="Head to fine-tune, of a model that has several.")]
Seed = Annotated[int, typer.Option(help="Seed of random numbers.")]
