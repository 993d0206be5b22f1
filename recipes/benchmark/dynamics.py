"""How a model of MACE holds in molecular dynamics: drift of the energy, and time to failure.

    python -m recipes.benchmark.dynamics MODEL structures.xyz --temperature 300

Starts from the structure of lowest energy, and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json

from ase.io import read

from mace_weak.command.surface import TIME_STEP, constant_energy


def main() -> None:
    from mace.calculators import MACECalculator

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("structures", help="extxyz file with REF_energy")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--steps", type=int, default=4000, help=f"of {TIME_STEP} fs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--head", help="of a model with several")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    heads = {"head": options.head} if options.head else {}
    calculator = MACECalculator(
        options.model, device=options.device, default_dtype="float32", **heads
    )
    start = min(read(options.structures, ":"), key=lambda atoms: float(atoms.info["REF_energy"]))
    trajectory = constant_energy(
        start,
        calculator,
        temperature=options.temperature,
        steps=options.steps,
        seed=options.seed,
    )
    print(json.dumps({key: getattr(trajectory, key) for key in ("drift", "time", "failed")}))


if __name__ == "__main__":
    main()
