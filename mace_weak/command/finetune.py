"""``mace-weak finetune``: fine-tuning in closed form, without a learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_weak.command.arguments import (
    ENERGY_KEY,
    FORCES_KEY,
    STRESS_KEY,
    AsJson,
    Device,
    EnergyKey,
    ForcesKey,
    Seed,
)
from mace_weak.command.output import show


def finetune(
    foundation: Annotated[
        str,
        typer.Argument(help="Model to fine-tune: a file of MACE or NequIP, or MACE's name of one."),
    ],
    train: Annotated[Path, typer.Argument(help="Structures with energies, extended XYZ.")],
    out: Annotated[Path, typer.Option(help="Model file to write.")],
    test: Annotated[
        Path | None, typer.Option(help="Labelled structures to compare before and after.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Head to fine-tune, of a model that has several.")
    ] = None,
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, even if the file exists.")
    ] = False,
    seed: Seed = 1,
    device: Device = "cpu",
    memory: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="GB for the gradients; default: 4, on a GPU three quarters of what is free.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model of MACE or NequIP on a few energies, in closed form.

    The network, linearised around the foundation model, is solved for the energies (and forces,
    where there are some), with the weak losses as its prior and all weights chosen by the
    evidence. The host's own trainer then carries the solution into an ordinary model file (of
    NequIP a checkpoint, for nequip-package).

    Called again after an interruption, it goes on.

    Example: [bold]mace-weak finetune small train.xyz --out tuned.model --test test.xyz[/]
    """
    from mace_weak.command.finetuning.run import Request, finetuned
    from mace_weak.command.frames import Keys

    request = Request(
        foundation=foundation, train=train, out=out, test=test, head=head,
        keys=Keys(energy_key, forces_key, STRESS_KEY), overwrite=overwrite, seed=seed,
        device=device, memory=memory,
    )  # fmt: skip
    raise typer.Exit(show(finetuned(request), as_json=as_json))
