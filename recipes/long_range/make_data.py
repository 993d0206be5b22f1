"""Make the dimers: of ammonium with itself, water and hydrogen cyanide, and of the last two.

    python -m recipes.long_range.make_data

By tblite, in ``data``: ``foundation.xyz`` by GFN1-xTB with forces, in contact and apart;
``train.xyz`` by GFN2-xTB, energies alone, of dimers in contact; ``near.xyz`` and ``far.xyz`` by
GFN2-xTB with forces, to test on; ``scan.xyz``, one ammonium and one hydrogen cyanide that part.
Orientations are random and the molecules distorted. ``n_first`` is the number of atoms
of the first molecule. Energies in eV, forces in eV/Å.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation
from tblite.ase import TBLite

HERE = Path(__file__).parent
CHARGES = {"NH4": 1, "H2O": 0, "HCN": 0}
PAIRS = (("NH4", "NH4"), ("NH4", "H2O"), ("NH4", "HCN"), ("H2O", "HCN"))
CHEAP, GOOD = "GFN1-xTB", "GFN2-xTB"
DISTORTION = 0.05  # Å, for a coordinate
NEAR, TAUGHT, FAR = (3.2, 5.0), (3.2, 8.0), (7.0, 12.0)  # Å between the centres
DIAGONAL = np.ones(3) / 3**0.5  # along which MACE's cell of a dimer is smallest


@dataclass(frozen=True)
class File:
    """Dimers of a file: how many of each pair, their distances, level, and whether with forces."""

    count: int
    distances: tuple[float, float]
    level: str
    forces: bool


FILES = {
    "foundation": File(60, TAUGHT, CHEAP, forces=True),
    "train": File(15, NEAR, GOOD, forces=False),
    "near": File(15, NEAR, GOOD, forces=True),
    "far": File(15, FAR, GOOD, forces=True),
}


def ammonium() -> Atoms:
    side = 1.03 / 3**0.5
    corners = [[0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]
    return Atoms("NH4", side * np.array(corners))


def monomer(name: str) -> Atoms:
    """A molecule at its minimum by GFN2-xTB, its centre of mass at the origin."""
    atoms = ammonium() if name == "NH4" else molecule(name)
    atoms.calc = TBLite(method=GOOD, charge=CHARGES[name], verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=200)
    atoms.positions -= atoms.get_center_of_mass()
    return Atoms(atoms.numbers, atoms.positions)


def dimer(one: Atoms, other: Atoms, charge: int, distance: float) -> Atoms:
    """Two molecules so far apart, about the origin."""
    first, second = one.copy(), other.copy()
    first.positions -= distance / 2 * DIAGONAL
    second.positions += distance / 2 * DIAGONAL
    both = first + second
    both.info |= {"total_charge": charge, "distance": distance, "n_first": len(first)}
    return both


def labelled(atoms: Atoms, level: str, *, forces: bool) -> Atoms:
    atoms.calc = TBLite(method=level, charge=atoms.info["total_charge"], verbosity=0)
    energy, force = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = None
    atoms.info["REF_energy"] = energy
    if forces:
        atoms.arrays["REF_forces"] = force
    return atoms


def turned(atoms: Atoms, generator: np.random.Generator) -> Atoms:
    """A distorted copy in a random orientation."""
    copy = atoms.copy()
    copy.positions += generator.normal(scale=DISTORTION, size=copy.positions.shape)
    turn = Rotation.from_quat(generator.normal(size=4))
    copy.positions = turn.apply(copy.positions)
    return copy


def dimers(file: File, monomers: dict[str, Atoms], seed: int) -> list[Atoms]:
    generator = np.random.default_rng(seed)
    frames = []
    for one, other in PAIRS:
        for distance in generator.uniform(*file.distances, size=file.count):
            first, second = (turned(monomers[name], generator) for name in (one, other))
            atoms = dimer(first, second, CHARGES[one] + CHARGES[other], float(distance))
            atoms.info["pair"] = f"{one} {other}"
            frames.append(labelled(atoms, file.level, forces=file.forces))
    order = generator.permutation(len(frames))
    return [frames[place] for place in order]


def scan(monomers: dict[str, Atoms], distances: Sequence[float]) -> list[Atoms]:
    """Ammonium and the negative end of hydrogen cyanide, which turns to it."""
    cyanide = monomers["HCN"].copy()
    axis = cyanide.positions[cyanide.symbols.search("H")[0]]  # from the centre of mass
    turn, _ = Rotation.align_vectors([DIAGONAL], [axis / np.linalg.norm(axis)])
    cyanide.positions = turn.apply(cyanide.positions)
    frames = [dimer(monomers["NH4"], cyanide, 1, distance) for distance in distances]
    return [labelled(atoms, GOOD, forces=True) for atoms in frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    monomers = {name: monomer(name) for name in CHARGES}
    for seed, (name, file) in enumerate(FILES.items()):
        write(options.out / f"{name}.xyz", dimers(file, monomers, seed))
    write(options.out / "scan.xyz", scan(monomers, np.arange(3.5, 14.01, 0.5)))
    print(f"{', '.join([*FILES, 'scan'])} in {options.out}, by tblite {version('tblite')}")


if __name__ == "__main__":
    main()
