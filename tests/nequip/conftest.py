"""Small real data and models for the tests with NequIP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from datafiles import Files, write_files
from training import Config, base_config, nequip_process, train


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Files:
    return write_files(tmp_path_factory.mktemp("data"))


@pytest.fixture
def nequip_dtype() -> Iterator[None]:
    """nequip's global dtype."""
    with nequip_process():
        yield


@pytest.fixture(scope="session")
def foundation_checkpoint(tmp_path_factory, files) -> Path:
    """A small NequIP model trained for a moment on molecules of H, C, N and O."""
    folder = tmp_path_factory.mktemp("foundation")
    return train(folder, base_config(files.molecules)).checkpoint


@pytest.fixture(scope="session")
def foundation(foundation_checkpoint) -> Path:
    """The same, packaged."""
    return package(foundation_checkpoint, foundation_checkpoint.with_name("foundation.nequip.zip"))


def package(checkpoint: Path, path: Path) -> Path:
    from nequip.scripts.package import main

    with nequip_process():
        main(["build", str(checkpoint), str(path)])
    return path


def from_package(path: Path) -> Config:
    return {"_target_": "nequip.model.ModelFromPackage", "package_path": str(path)}


def from_checkpoint(path: Path) -> Config:
    return {"_target_": "nequip.model.ModelFromCheckpoint", "checkpoint_path": str(path)}


def shifted(model: Config, train_file: Path) -> Config:
    """The model with its energies shifted to those of another level of theory."""
    shift = np.mean([atoms.info["REF_energy"] / len(atoms) for atoms in read(train_file, ":")])
    modifier = {"modifier": "modify_PerTypeScaleShift", "shifts": float(shift)}
    return {"_target_": "nequip.model.modify", "modifiers": [modifier], "model": model}


@pytest.fixture(scope="session")
def finetune(files, foundation) -> Config:
    """Fine-tune the packaged foundation on ethanol energies, with nequip's own loss."""
    config = base_config(files.ethanol, labels=["total_energy"])
    config["training_module"]["model"] = shifted(from_package(foundation), files.ethanol)
    return config
