"""How a model of MACE holds in molecular dynamics: drift of the energy, and time to failure.

    python recipes/benchmark/dynamics.py MODEL structures.xyz --temperature 300

Starts from the structure of lowest energy, and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import natural_cutoffs, neighbor_list

TIME_STEP = 0.5  # fs
STRIDE = 10  # steps between two looks
BROKEN = (0.5, 1.7)  # a bond shorter or longer than this times its length at the start


@dataclass(frozen=True)
class Trajectory:
    """``drift`` in meV/atom/ps, of the total energy until the failure, and ``time`` in ps.

    ``failed`` tells whether a bond broke before the end.
    """

    drift: float
    time: float
    failed: bool


def constant_energy(
    atoms: Atoms, calculator: Calculator, *, temperature: float, steps: int, seed: int
) -> Trajectory:
    """A trajectory at constant energy from ``atoms``, near a minimum, with velocities of 2T (K).

    Half of that kinetic energy goes into the potential, so that the temperature is about T.
    """
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    atoms.calc = calculator
    generator = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=2 * temperature, rng=generator)
    Stationary(atoms)
    first, second, shift = neighbor_list("ijS", atoms, natural_cutoffs(atoms, mult=1.2))
    start = lengths(atoms, first, second, shift)
    dynamics = VelocityVerlet(atoms, TIME_STEP * units.fs)
    times, energies = [0.0], [atoms.get_total_energy()]
    while times[-1] < steps * TIME_STEP / 1000 - 1e-9:
        dynamics.run(STRIDE)
        stretch = lengths(atoms, first, second, shift) / start
        if not (BROKEN[0] < stretch.min() and stretch.max() < BROKEN[1]):
            return Trajectory(slope(times, energies, len(atoms)), times[-1], failed=True)
        times.append(times[-1] + STRIDE * TIME_STEP / 1000)
        energies.append(atoms.get_total_energy())
    return Trajectory(slope(times, energies, len(atoms)), times[-1], failed=False)


def lengths(atoms: Atoms, first: np.ndarray, second: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Lengths in Å of the bonds between ``first`` and ``second`` atoms."""
    vectors = atoms.positions[second] - atoms.positions[first] + shift @ atoms.cell.array
    return np.linalg.norm(vectors, axis=1)


def slope(times: list[float], energies: list[float], n_atoms: int) -> float:
    """Of the total energy over the time, meV/atom/ps."""
    if len(times) < 3:
        return float("nan")
    return float(1e3 * np.polyfit(times, energies, 1)[0] / n_atoms)


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
    print(json.dumps(asdict(trajectory)))


if __name__ == "__main__":
    main()
