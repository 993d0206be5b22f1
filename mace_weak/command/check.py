"""``mace-weak check``: training data, before an hour of a GPU is spent on it."""

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
    StressKey,
)
from mace_weak.command.output import show


def check(
    train: Annotated[Path, typer.Argument(help="Training structures, extended XYZ.")],
    valid: Annotated[Path | None, typer.Option(help="Structures for validation.")] = None,
    test: Annotated[Path | None, typer.Option(help="Structures for the test.")] = None,
    foundation: Annotated[
        str | None, typer.Option(help="Model to fine-tune: a file, or MACE's name of one.")
    ] = None,
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    stress_key: StressKey = STRESS_KEY,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Check training data: labels, duplicates and leaks, units, atomic energies, the foundation.

    Ends with a training command to copy.

    Example: [bold]mace-weak check train.xyz --foundation small[/]
    """
    from mace_weak.command.checking.checks import checked
    from mace_weak.command.checking.survey import survey
    from mace_weak.command.frames import Keys
    from mace_weak.command.models import host_of, load_model
    from mace_weak.versions import MACE

    keys = Keys(energy_key, forces_key, stress_key)
    result = checked(
        survey(train, keys),
        survey(valid, keys) if valid else None,
        survey(test, keys) if test else None,
        foundation=foundation,
        model=load_model(foundation, device=device) if foundation else None,
        keys=keys,
        device=device,
        reader=host_of(foundation) if foundation else MACE,
    )
    raise typer.Exit(show(result, as_json=as_json))
