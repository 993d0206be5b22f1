"""Make the data of the quickstart: molecules at GFN1-xTB, and ethanol at PBE/def2-SVP.

Needs the extra ``data`` of mace-weak (``pip install ".[data]"``). Run it as::

    python -m recipes.quickstart.make_data --out recipes/quickstart/data

Three files are written, in the extended XYZ format with MACE's default keys
(``REF_energy`` in eV, ``REF_forces`` in eV/Å):

``molecules_gfn1.xyz``
    The closed-shell C/H/N/O molecules of the G2 set, from Langevin dynamics at 1000 K,
    energies and forces of GFN1-xTB. They train the small foundation model.
``ethanol_pbe_train.xyz``
    Ethanol from Langevin dynamics at 500 K, energies (only) of PBE/def2-SVP.
``ethanol_pbe_test.xyz``
    Ethanol from an independent trajectory, energies and forces of PBE/def2-SVP.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.collections import g2
from ase.io import write
from tqdm import tqdm

from recipes.quickstart.sampling import sample

ELEMENTS = {"H", "C", "N", "O"}
TARGET = "CH3CH2OH"
CARBENE = "CH2_s1A1d"  # its ground state is a triplet
GRID = 3  # PySCF's default level


def closed_shell_molecules() -> list[str]:
    """Names of the closed-shell polyatomic molecules of H, C, N and O in the G2 set."""
    names = []
    for name in g2.names:
        atoms = molecule(name)
        radical = np.any(atoms.get_initial_magnetic_moments() != 0)
        elements = set(atoms.get_chemical_symbols())
        if len(atoms) > 2 and elements <= ELEMENTS and not radical and name != CARBENE:
            names.append(name)
    return names


def gfn1_frames(name: str, frames: int, seed: int) -> list[Atoms]:
    """Frames of one molecule at 1000 K, labelled at GFN1-xTB with energies and forces."""
    from tblite.ase import TBLite

    labelled = list(sample(name, temperature=1000.0, frames=frames, seed=seed))
    for frame in labelled:
        frame.calc = TBLite(method="GFN1-xTB", verbosity=0)
        label(frame, frame.get_potential_energy(), frame.get_forces())
        frame.calc = None
    return labelled


def pbe(atoms: Atoms, *, fitted: bool, grid: int = GRID) -> Any:
    """A converged calculation of PySCF at PBE/def2-SVP; ``fitted``: with density fitting.

    Raises:
        RuntimeError: if it does not converge.
    """
    from pyscf import dft, gto

    mole = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
        basis="def2-svp",
        verbose=0,
    )
    field = dft.RKS(mole, xc="PBE")
    if fitted:
        field = field.density_fit()
    field.grids.level = grid
    field.run(conv_tol=1e-10)
    if not field.converged:
        raise RuntimeError(f"PBE of a frame of {atoms.get_chemical_formula()} did not converge")
    return field


def pbe_forces(field: Any) -> np.ndarray:
    """Those of a calculation of PySCF (n_atoms, 3), eV/Å."""
    return -field.nuc_grad_method().kernel() * units.Hartree / units.Bohr


def pbe_label(frame: Atoms, *, forces: bool) -> Atoms:
    """Label a frame at PBE/def2-SVP (PySCF, density fitting)."""
    from pyscf import lib

    lib.num_threads(1)
    field = pbe(frame, fitted=True)
    label(frame, field.e_tot * units.Hartree, pbe_forces(field) if forces else None)
    return frame


def pbe_energy(frame: Atoms) -> Atoms:
    return pbe_label(frame, forces=False)


def pbe_energy_and_forces(frame: Atoms) -> Atoms:
    return pbe_label(frame, forces=True)


def label(frame: Atoms, energy: float, forces: np.ndarray | None) -> None:
    """Attach labels under MACE's default keys, energy in eV and forces in eV/Å."""
    frame.info["REF_energy"] = round(float(energy), 8)
    if forces is not None:
        frame.arrays["REF_forces"] = np.round(forces, 6)


def mapped(pool: ProcessPoolExecutor, function: Callable, *arguments: list, what: str) -> list:
    return list(tqdm(pool.map(function, *arguments), total=len(arguments[0]), desc=what))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--frames", type=int, default=16, help="frames a molecule")
    parser.add_argument("--train", type=int, default=50, help="ethanol energies to train on")
    parser.add_argument("--test", type=int, default=60, help="ethanol frames to test on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = closed_shell_molecules()
    seeds = [options.seed + index for index in range(len(names))]
    with ProcessPoolExecutor(options.processes) as pool:
        frames = mapped(
            pool, gfn1_frames, names, [options.frames] * len(names), seeds, what="GFN1-xTB"
        )
        write(options.out / "molecules_gfn1.xyz", [frame for each in frames for frame in each])
        for kind, count, function, seed in (
            ("train", options.train, pbe_energy, 1000),
            ("test", options.test, pbe_energy_and_forces, 2000),
        ):
            geometries = list(
                sample(
                    TARGET, temperature=500.0, frames=count, seed=options.seed + seed, stride=200
                )
            )
            labelled = mapped(pool, function, geometries, what=f"PBE {kind}")
            write(options.out / f"ethanol_pbe_{kind}.xyz", labelled)


if __name__ == "__main__":
    main()
