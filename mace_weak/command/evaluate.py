"""``mace-weak evaluate``: errors of a model, and how its energy surface behaves."""

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
    Dtype,
    EnergyKey,
    ForcesKey,
    Seed,
    StressKey,
)
from mace_weak.command.output import require_writable, show

TYPE_KEY = "config_type"


def evaluate(
    model: Annotated[str, typer.Argument(help="Model file of MACE or NequIP.")],
    test: Annotated[Path, typer.Argument(help="Structures that no training saw, extended XYZ.")],
    before: Annotated[
        str | None, typer.Option(help="The model before the fine-tuning, to compare with.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and its pictures.")] = Path(
        "evaluation"
    ),
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    stress_key: StressKey = STRESS_KEY,
    type_key: Annotated[str, typer.Option(help="Key of the type of configuration.")] = TYPE_KEY,
    probes: Annotated[
        int, typer.Option(min=0, help="Structures for Taylor residuals and closed paths.")
    ] = 20,
    temperature: Annotated[float, typer.Option(min=0, help="Of the dynamics, K.")] = 300.0,
    steps: Annotated[int, typer.Option(min=0, help="Of the dynamics, 0.5 fs each.")] = 1000,
    seed: Seed = 1,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Judge a model: errors, softening, Taylor residuals, closed paths, dynamics; with pictures.

    Example: [bold]mace-weak evaluate tuned.model test.xyz --before foundation.model[/]
    """
    from mace_weak.command.frames import Keys
    from mace_weak.command.judging.judgement import Settings, judge

    require_writable(out, folder=True)
    settings = Settings(
        keys=Keys(energy_key, forces_key, stress_key), type_key=type_key, probes=probes,
        temperature=temperature, steps=steps, seed=seed, device=device,
        dtype=dtype.value if dtype else "", out=out,
    )  # fmt: skip
    raise typer.Exit(show(judge(model, before, test, settings), as_json=as_json))
