"""Make the data of silicon's foundation models, at one of two cheap levels.

    python -m recipes.benchmark.make_silicon --out recipes/benchmark/data
    python -m recipes.benchmark.make_silicon --out recipes/benchmark/data --level gfn1

Writes ``silicon_sw.xyz`` or ``silicon_gfn1.xyz``: crystal, vacancy, slab and liquid from Langevin
dynamics with the potential of Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), by matscipy, in
cells of random strain, with energies (eV), forces (eV/Å) and stresses (eV/Å³, Voigt order) of that
potential or of GFN1-xTB, by tblite. GFN1-xTB has the Γ point alone, so its cells are larger.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, diamond100
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
    Stillinger_Weber_PRB_31_5262_Si,
    StillingerWeber,
)
from tqdm import tqdm

LATTICE_CONSTANT = 5.431  # Å
KINDS = {  # and the temperatures of their trajectories, K
    "crystal": (300, 900, 1500),
    "vacancy": (300, 900, 1500),
    "slab": (300, 900),
    "liquid": (4000,),
}


def silicon_calculator() -> Manybody:
    return Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))


def gfn1_calculator() -> Calculator:
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", verbosity=0)


@dataclass(frozen=True)
class Level:
    """How structures are labelled, how large they are, and the trajectories of each kind."""

    calculator: Callable[[], Calculator]
    cubic: bool
    slab: tuple[int, int, int]
    trajectories: dict[str, int]
    frames: int


LEVELS = {
    "sw": Level(
        calculator=silicon_calculator,
        cubic=False,
        slab=(2, 2, 4),
        trajectories={"crystal": 18, "vacancy": 9, "slab": 6, "liquid": 6},
        frames=6,
    ),
    "gfn1": Level(
        calculator=gfn1_calculator,
        cubic=True,
        slab=(3, 3, 6),
        trajectories={"crystal": 9, "vacancy": 3, "slab": 4, "liquid": 2},
        frames=4,
    ),
}


def start(kind: str, level: Level) -> Atoms:
    """A structure of the kind, at rest, in 2 × 2 × 2 cells, primitive or cubic ones."""
    if kind == "slab":
        slab = diamond100("Si", level.slab, a=LATTICE_CONSTANT, vacuum=6.0)
        slab.pbc = True
        return slab
    atoms = bulk("Si", a=LATTICE_CONSTANT, cubic=level.cubic) * (2, 2, 2)
    if kind == "vacancy":
        del atoms[0]
    return atoms


def strained(atoms: Atoms, generator: np.random.Generator, *, size: float = 0.03) -> Atoms:
    """The structure with its cell under a random symmetric strain, normal with width ``size``."""
    strain = generator.normal(scale=size, size=(3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    return atoms


def sample(
    atoms: Atoms, *, temperature: float, frames: int, generator: np.random.Generator
) -> Iterator[Atoms]:
    """Frames of a Langevin trajectory: temperature in K, time step 2 fs."""
    atoms.calc = silicon_calculator()
    # with twice the kinetic energy, half of which goes into the potential
    thermalize_momenta(atoms, temperature_K=2 * temperature, rng=generator)
    dynamics = Langevin(
        atoms, 2 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=generator
    )
    for _ in range(frames):
        dynamics.run(60)
        yield Atoms(atoms.numbers, np.round(atoms.positions, 5), cell=atoms.cell, pbc=True)


def label(frame: Atoms, calculator: Calculator) -> None:
    """Give the frame its energy, forces and stress."""
    frame.calc = calculator
    labels = {
        "REF_energy": round(frame.get_potential_energy(), 6),
        "REF_stress": np.round(frame.get_stress(), 8),
    }
    frame.arrays["REF_forces"] = np.round(frame.get_forces(), 5)
    frame.calc = None
    frame.info.update(labels)


def frames_of_kinds(level: Level, seed: int) -> Iterator[tuple[str, Atoms]]:
    """The frames of all trajectories and their kinds; each trajectory has a cell of its own."""
    generator = np.random.default_rng(seed)
    for kind, temperatures in KINDS.items():
        for number in tqdm(range(level.trajectories[kind]), desc=kind):
            atoms = strained(start(kind, level), generator)
            temperature = temperatures[number % len(temperatures)]
            frames = sample(
                atoms, temperature=temperature, frames=level.frames, generator=generator
            )
            yield from ((kind, frame) for frame in frames)


def frames_of_all(level: Level, seed: int) -> Iterator[Atoms]:
    """The frames with their labels, but for those that the level gives none for."""
    for kind, frame in frames_of_kinds(level, seed):
        try:
            label(frame, level.calculator())
        except CalculationFailed as error:  # of a molten cell, say
            tqdm.write(f"a frame of {kind} is left out: {error}")
            continue
        frame.info["config_type"] = kind
        yield frame


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--level", choices=LEVELS, default="sw")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"silicon_{options.level}.xyz"
    frames = list(frames_of_all(LEVELS[options.level], options.seed))
    write(path, frames)
    print(f"{len(frames)} frames: {path}")


if __name__ == "__main__":
    main()
