"""Small real data and models for the tests with MACE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

pytest.importorskip("mace", reason="mace-torch is not installed")

from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from training import FINETUNE, SCRATCH, train

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart" / "data"
FOUNDATION_MOLECULES = ("CH3CH2OH", "CH3OH", "HCOOH", "H2O", "HCN")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Files:
    """Training files: molecules with forces, ethanol with energies only, strained copper."""

    molecules: Path
    ethanol: Path
    ethanol_forces: Path
    copper: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("data")
    frames = read(QUICKSTART / "molecules_gfn1.xyz", ":")
    chosen = [
        [frame for frame in frames if frame.info["name"] == name][:4]
        for name in FOUNDATION_MOLECULES
    ]
    ethanol = read(QUICKSTART / "ethanol_pbe_train.xyz", ":12")
    labelled = read(QUICKSTART / "ethanol_pbe_test.xyz", ":12")
    paths = Files(*(folder / f"{name}.xyz" for name in Files.__annotations__))
    write(paths.molecules, [frame for each in chosen for frame in each])
    write(paths.ethanol, ethanol)
    write(paths.ethanol_forces, labelled)
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


@pytest.fixture(scope="session")
def foundation(tmp_path_factory, files) -> Path:
    """A small MACE trained for a moment on molecules of H, C, N and O."""
    return scratch_model(tmp_path_factory.mktemp("foundation"), files.molecules, epochs=10)


@pytest.fixture(scope="session")
def copper_foundation(tmp_path_factory, files) -> Path:
    """A small MACE trained for a moment on copper."""
    return scratch_model(tmp_path_factory.mktemp("copper_foundation"), files.copper, epochs=2)


def scratch_model(folder: Path, train_file: Path, *, epochs: int) -> Path:
    flags = (*SCRATCH, "--model=ScaleShiftMACE", f"--max_num_epochs={epochs}")
    return train(folder, *flags, f"--train_file={train_file}").folder / "run.model"


@pytest.fixture
def finetune_flags(files, foundation) -> list[str]:
    """Fine-tune the foundation on ethanol energies."""
    return [f"--train_file={files.ethanol}", f"--foundation_model={foundation}", *FINETUNE]


@pytest.fixture
def one_batch_flags(tmp_path, files, foundation) -> list[str]:
    """The same with four structures to train on, which are one step."""
    frames = read(files.ethanol, ":8")
    write(tmp_path / "train.xyz", frames[:4])
    write(tmp_path / "valid.xyz", frames[4:])
    return [
        f"--train_file={tmp_path / 'train.xyz'}",
        f"--valid_file={tmp_path / 'valid.xyz'}",
        f"--foundation_model={foundation}",
        *FINETUNE,
    ]


@pytest.fixture(scope="session")
def packed(tmp_path_factory, files) -> Path:
    """The ethanol energies as HDF5 files, as MACE's preprocessing writes them."""
    from mace.data import KeySpecification, load_from_xyz, save_configurations_as_HDF5

    folder = tmp_path_factory.mktemp("packed")
    keys = KeySpecification.from_defaults()
    _, configurations = load_from_xyz(str(files.ethanol), keys)
    for name, chosen in (("train", configurations[:8]), ("valid", configurations[8:])):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            save_configurations_as_HDF5(chosen, 0, file)
    return folder
