"""How a model of MACE holds in molecular dynamics: drift of the energy, and time to failure.

    python -m recipes.benchmark.dynamics MODEL structures.xyz --temperature 300

Starts from the structure of lowest energy, and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read

from mace_weak.command.surface import TIME_STEP, constant_energy


def lowest(frames: Sequence[Atoms]) -> Atoms:
    """The structure of lowest energy."""
    return min(frames, key=lambda atoms: float(atoms.info["REF_energy"]))


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """A model of MACE, and how it is loaded."""
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")


def calculator_of(options: argparse.Namespace, *, dtype: str) -> Calculator:
    from mace.calculators import MACECalculator

    return MACECalculator(options.model, device=options.device, default_dtype=dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument("structures", help="extxyz file with REF_energy")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--steps", type=int, default=4000, help=f"of {TIME_STEP} fs")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    trajectory = constant_energy(
        lowest(read(options.structures, ":")),
        calculator_of(options, dtype="float32"),
        temperature=options.temperature,
        steps=options.steps,
        seed=options.seed,
    )
    print(json.dumps({key: getattr(trajectory, key) for key in ("drift", "time", "failed")}))


if __name__ == "__main__":
    main()
