"""Files of ethanol whose labels a training would read as something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from datafiles import QUICKSTART

LABELLED = QUICKSTART / "data" / "ethanol_pbe_test.xyz"
ALL_ELECTRONS = {"C": -1027.0, "H": -13.6, "O": -2036.0}  # eV, roughly


def frames() -> list[Atoms]:
    return read(LABELLED, ":12")


def alone(energies: dict[str, float], *, key: str = "REF_energy") -> list[Atoms]:
    """Isolated atoms with these energies."""
    return [
        Atoms(symbol, info={"config_type": "IsolatedAtom", key: energy})
        for symbol, energy in energies.items()
    ]


def ases_own(atoms: Atoms, *, energy: bool, forces: bool) -> Atoms:
    """Labels under ASE's own names, where it keeps what a calculator gave."""
    found = {"energy": atoms.info["REF_energy"]} if energy else {}
    if forces:
        found["forces"] = atoms.arrays["REF_forces"]
    copy = Atoms(atoms.numbers, atoms.positions)
    if found:
        copy.calc = SinglePointCalculator(copy, **found)
    return copy


def some_forces() -> list[Atoms]:
    return [ases_own(own, energy=True, forces=n < 3) for n, own in enumerate(frames())]


def some_energies() -> list[Atoms]:
    return [ases_own(own, energy=n < 6, forces=True) for n, own in enumerate(frames())]


def atoms_under_ases_name() -> list[Atoms]:
    own = [ases_own(atoms, energy=True, forces=False) for atoms in frames()]
    return [*alone(ALL_ELECTRONS, key="energy"), *own]


def valence_totals() -> list[Atoms]:
    """Isolated atoms with all electrons under structures without cores."""
    own = frames()
    for atoms in own:
        atoms.info["REF_energy"] += 4210.0 - 450.0
    return [*alone(ALL_ELECTRONS), *own]


def hydrogen_alone() -> list[Atoms]:
    return [*alone({"H": -13.6}), *frames()]


def unlabelled_atoms() -> list[Atoms]:
    found = alone(ALL_ELECTRONS)
    del found[0].info["REF_energy"]
    return [*found, *frames()]


def heavy() -> list[Atoms]:
    own = frames()
    for atoms in own:
        atoms.info["REF_energy"] -= 1e7
    return own


def in_the_comment_line() -> list[Atoms]:
    own = frames()
    for atoms in own:
        atoms.info["REF_forces"] = atoms.arrays.pop("REF_forces").tolist()
    return own


def the_first_ones_forces() -> list[Atoms]:
    own = frames()
    for atoms in own:
        atoms.arrays["REF_forces"] = own[0].arrays["REF_forces"].copy()
    return own


def no_position() -> list[Atoms]:
    own = frames()
    own[3].positions[2, 1] = np.nan
    return own


def no_cell() -> list[Atoms]:
    own = frames()
    own[3].pbc = True
    return own


def no_atoms() -> list[Atoms]:
    own = frames()
    own[3] = Atoms(info={"REF_energy": 0.0})
    return own


def held() -> list[Atoms]:
    """A slab's way to write which atoms do not move."""
    own = [ases_own(atoms, energy=True, forces=True) for atoms in frames()]
    own[3].set_constraint(FixAtoms([0, 1]))
    return own


def free_energies() -> list[Atoms]:
    own = frames()
    for atoms in own:
        atoms.info = {"free_energy": atoms.info["REF_energy"]}
    return own


def some_stresses() -> list[Atoms]:
    """Cells with labels under ASE's own names, five of eight without a stress."""
    cells = [bulk("Al") for _ in range(8)]
    for number, atoms in enumerate(cells):
        atoms.set_cell(atoms.cell * (0.97 + 0.005 * number), scale_atoms=True)
        results = {"energy": -3.0 - 0.1 * number**2, "forces": np.full((1, 3), 0.1 * number)}
        if number < 3:
            results["stress"] = np.full(6, 0.01 * number)
        atoms.calc = SinglePointCalculator(atoms, **results)
    return cells


# How a file is made, the names of its labels, and what is said of it.
FILES: dict[str, tuple[Callable[[], list[Atoms]], dict[str, str], str]] = {
    "some forces under ASE's name": (
        some_forces,
        {"energy": "energy", "forces": "forces"},
        "9 structures have no forces under ASE's own name 'forces'",
    ),
    "some energies under ASE's name": (
        some_energies,
        {"energy": "energy", "forces": "forces"},
        "6 structures have no energy under ASE's own name 'energy'",
    ),
    "isolated atoms under ASE's name": (
        atoms_under_ases_name,
        {"energy": "energy"},
        "isolated atoms stand under ASE's own name 'energy'",
    ),
    "isolated atoms of another method": (
        valence_totals,
        {},
        "which are of another method than the structures",
    ),
    "isolated atoms of one element": (hydrogen_alone, {}, "but not of C, O"),
    "isolated atoms without an energy": (unlabelled_atoms, {}, "isolated atoms of C have no"),
    "energies too large for float32": (heavy, {}, "are rounded to 1 eV in float32"),
    "forces in the comment line": (in_the_comment_line, {}, "in the comment line (info"),
    "forces of another structure": (the_first_ones_forces, {}, "have the same forces"),
    "a position that is none": (no_position, {}, "3 (counted from 0): a position is NaN"),
    "a periodic structure without a cell": (
        no_cell,
        {},
        "3 (counted from 0): it is periodic and has no cell vectors",
    ),
    "a structure without atoms": (no_atoms, {}, "3 (counted from 0): it has no atoms"),
    "forces of atoms that are held": (
        held,
        {"energy": "energy", "forces": "forces"},
        "it has constraints (move_mask), and under ASE's own name 'forces' MACE reads zero",
    ),
    "energies where MACE does not look": (
        free_energies,
        {"energy": "free_energy"},
        "its energy is called 'free_energy', which ASE keeps with its calculator",
    ),
}


def written(folder: Path, name: str) -> Path:
    make, _, _ = FILES[name]
    path = folder / "labels.xyz"
    write(path, make(), format="extxyz")
    return path
