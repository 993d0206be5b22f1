"""``mace-weak soften``: fine-tune on one structure of high energy, and compare the force slopes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_weak.command.arguments import (
    ENERGY_KEY,
    FORCES_KEY,
    AsJson,
    Device,
    EnergyKey,
    ForcesKey,
)
from mace_weak.command.output import require_writable, show


def soften(
    model: Annotated[str, typer.Argument(help="Model file of MACE or NequIP (not compiled).")],
    data: Annotated[Path, typer.Argument(help="Structures with energies and forces.")],
    index: Annotated[
        int | None,
        typer.Option(
            min=0, help="Number of the structure in the file, from 0. [default: highest energy]"
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Steps, as the structure is alone.")] = 50,
    lr: Annotated[float, typer.Option(help="Learning rate at the start.")] = 0.001,
    out: Annotated[Path, typer.Option(help="New folder for the model and the rest.")] = Path(
        "softened"
    ),
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Mend a soft potential: fine-tune on one structure and show the force slope on all others.

    After Deng et al., arXiv:2405.07105. The structure is that of the highest energy per atom over
    what its composition explains.

    Example: [bold]mace-weak soften foundation.model labelled.xyz --out softened[/]
    """
    from mace_weak.command.frames import Keys
    from mace_weak.command.softening.correction import Settings, softened

    require_writable(out.parent, folder=True)
    settings = Settings(
        keys=Keys(energy_key, forces_key), index=index, epochs=epochs, lr=lr, device=device, out=out
    )
    raise typer.Exit(show(softened(model, data, settings), as_json=as_json))
