"""Options that several subcommands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

# the keys that both hosts' recipes use
ENERGY_KEY, FORCES_KEY, STRESS_KEY = "REF_energy", "REF_forces", "REF_stress"


class Precision(str, Enum):
    """Of floating-point numbers."""

    SINGLE = "float32"
    DOUBLE = "float64"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
EnergyKey = Annotated[str, typer.Option(help="Key of the energies (eV) in the files.")]
ForcesKey = Annotated[str, typer.Option(help="Key of the forces (eV/Å).")]
StressKey = Annotated[str, typer.Option(help="Key of the stresses (eV/Å³).")]
Device = Annotated[str, typer.Option(help="Where the model runs: cpu or cuda.")]
Dtype = Annotated[Precision | None, typer.Option(help="Of a MACE model; default: its own.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn at random.")]
