"""Make the data of silicon's foundation model: small cells at the Stillinger-Weber level.

    python recipes/benchmark/make_silicon.py --out recipes/benchmark/data

Writes ``silicon_sw.xyz``: crystal, vacancy, slab and liquid from Langevin dynamics, in cells of
random strain, with energies (eV), forces (eV/Å) and stresses (eV/Å³, Voigt order) of the potential
of Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), by matscipy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, diamond100
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


def silicon_calculator() -> Manybody:
    return Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))


def crystal() -> Atoms:
    return bulk("Si", a=LATTICE_CONSTANT) * (2, 2, 2)


def vacancy() -> Atoms:
    atoms = crystal()
    del atoms[0]
    return atoms


def slab() -> Atoms:
    atoms = diamond100("Si", (2, 2, 4), a=LATTICE_CONSTANT, vacuum=6.0)
    atoms.pbc = True
    return atoms


# what, its temperatures (K), and how many trajectories
KINDS = {
    "crystal": (crystal, (300, 900, 1500), 18),
    "vacancy": (vacancy, (300, 900, 1500), 9),
    "slab": (slab, (300, 900), 6),
    "liquid": (crystal, (4000,), 6),
}


def strained(atoms: Atoms, generator: np.random.Generator, *, size: float = 0.03) -> Atoms:
    """The structure with its cell under a random symmetric strain, normal with width ``size``."""
    strain = generator.normal(scale=size, size=(3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    return atoms


def sample(
    atoms: Atoms, *, temperature: float, frames: int, generator: np.random.Generator
) -> Iterator[Atoms]:
    """Labelled frames of a Langevin trajectory: temperature in K, time step 2 fs."""
    atoms.calc = silicon_calculator()
    # with twice the kinetic energy, half of which goes into the potential
    thermalize_momenta(atoms, temperature_K=2 * temperature, rng=generator)
    dynamics = Langevin(
        atoms, 2 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=generator
    )
    for _ in range(frames):
        dynamics.run(60)
        frame = Atoms(atoms.numbers, np.round(atoms.positions, 5), cell=atoms.cell, pbc=True)
        frame.calc = atoms.calc
        labels = {
            "REF_energy": round(frame.get_potential_energy(), 6),
            "REF_stress": np.round(frame.get_stress(), 8),
        }
        frame.arrays["REF_forces"] = np.round(frame.get_forces(), 5)
        frame.calc = None
        frame.info.update(labels)
        yield frame


def frames_of_all(seed: int, frames: int) -> Iterator[Atoms]:
    """The frames of all trajectories; each has a cell of its own."""
    generator = np.random.default_rng(seed)
    for name, (make, temperatures, trajectories) in tqdm(KINDS.items(), unit="kind"):
        for number in range(trajectories):
            start = strained(make(), generator)
            temperature = temperatures[number % len(temperatures)]
            for atoms in sample(start, temperature=temperature, frames=frames, generator=generator):
                atoms.info["config_type"] = name
                yield atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--frames", type=int, default=6, help="frames of each trajectory")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "silicon_sw.xyz"
    frames = list(frames_of_all(options.seed, options.frames))
    write(path, frames)
    print(f"{len(frames)} frames: {path}")


if __name__ == "__main__":
    main()
