"""Small real data for the trainings of both hosts, and which hosts are here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from forked import run_program

from mace_weak.versions import MACE, NEQUIP, installed

RECIPES = Path(__file__).parents[1] / "recipes"
QUICKSTART = RECIPES / "quickstart"
CONFIGURATIONS = RECIPES.parent / "mace_weak" / "configurations"
FOUNDATION_MOLECULES = ("CH3CH2OH", "CH3OH", "HCOOH", "H2O", "HCN")
HOSTS = {"mace": installed(MACE), "nequip": installed(NEQUIP)}


@dataclass(frozen=True)
class Files:
    """Training files: molecules with forces, strained copper, and ethanol with energies only.

    ``ethanols`` has enough of them to solve for the forces.
    """

    molecules: Path
    ethanol: Path
    ethanols: Path
    ethanol_forces: Path
    copper: Path


def write_files(folder: Path) -> Files:
    frames = read(QUICKSTART / "data" / "molecules_gfn1.xyz", ":")
    chosen = [
        [frame for frame in frames if frame.info["name"] == name][:4]
        for name in FOUNDATION_MOLECULES
    ]
    paths = Files(*(folder / f"{name}.xyz" for name in Files.__annotations__))
    write(paths.molecules, [frame for each in chosen for frame in each])
    write(paths.ethanol, read(QUICKSTART / "data" / "ethanol_pbe_train.xyz", ":12"))
    write(paths.ethanols, read(QUICKSTART / "data" / "ethanol_pbe_train.xyz", ":"))
    write(paths.ethanol_forces, read(QUICKSTART / "data" / "ethanol_pbe_test.xyz", ":12"))
    write(paths.copper, strained_copper(10))
    return paths


def strained_copper(count: int) -> list[Atoms]:
    """Rattled, strained cells of copper with the energies, forces and stresses of ASE's EMT."""
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        strain = np.eye(3) + 0.02 * generator.standard_normal((3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += 0.05 * generator.standard_normal(atoms.positions.shape)
        atoms.calc = EMT()
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        frame.info["REF_energy"] = atoms.get_potential_energy()
        frame.info["REF_stress"] = atoms.get_stress(voigt=False)
        frame.arrays["REF_forces"] = atoms.get_forces()
        frames.append(frame)
    return frames


def run_recipe(script: Path, *arguments: str | Path) -> str:
    """Run a script of the recipes as a module; returns what it prints."""
    root = RECIPES.parent
    module = ".".join(script.relative_to(root).with_suffix("").parts)
    paths = filter(None, [str(root), os.environ.get("PYTHONPATH")])
    done = run_program("python", "-m", module, *arguments, PYTHONPATH=os.pathsep.join(paths))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def small_plan(folder: Path) -> Path:
    """Cases for the benchmark: few ethanols, and a foundation model trained for a moment."""
    data = QUICKSTART / "data"
    path = folder / "cases.yaml"
    path.write_text(
        "foundations:\n"
        f"  molecules: {{config: {QUICKSTART / 'foundation.yaml'}, "
        f"train: {{file: {write_files(folder).molecules}}}, epochs: 1}}\n"
        "data:\n"
        "  small:\n"
        f"    train: {{file: {data / 'ethanol_pbe_train.xyz'}, index: ':24'}}\n"
        f"    test: {{file: {data / 'ethanol_pbe_test.xyz'}, index: ':4'}}\n"
        "    batch_size: 2\n"
        "  absent:\n"
        "    train: {file: shared/absent.xyz}\n"
        "    test: {file: shared/absent.xyz}\n"
        "methods: {weak_taylor: {flags: {loss: weak_taylor}}}\n"
        "sets:\n"
        "  few: {data: [small, absent], method: [weak_taylor], structures: [20], lr: [0.01], "
        "steps: [10], seed: [1, 2]}\n"
    )
    return path
