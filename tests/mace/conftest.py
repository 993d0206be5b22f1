"""Small real data and models for the tests with MACE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from datafiles import Files, write_files
from training import FINETUNE, POLAR, SCRATCH, train


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Files:
    return write_files(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def foundation(tmp_path_factory, files) -> Path:
    """A small MACE trained for a moment on molecules of H, C, N and O."""
    return scratch_model(tmp_path_factory.mktemp("foundation"), files.molecules, epochs=10)


@pytest.fixture(scope="session")
def copper_foundation(tmp_path_factory, files) -> Path:
    """A small MACE trained for a moment on copper."""
    return scratch_model(tmp_path_factory.mktemp("copper_foundation"), files.copper, epochs=2)


@pytest.fixture(scope="session")
def polar_foundation(tmp_path_factory, files) -> Path:
    """A small PolarMACE trained for a moment on the same molecules."""
    folder = tmp_path_factory.mktemp("polar_foundation")
    return scratch_model(folder, files.molecules, epochs=5, kind=POLAR)


@pytest.fixture(scope="session")
def latent_foundation(tmp_path_factory, files) -> Path:
    """A small MACELES trained for a moment."""
    pytest.importorskip("les", reason="les is not on PyPI, and its licence is CC BY-NC")
    folder = tmp_path_factory.mktemp("latent_foundation")
    return scratch_model(folder, files.molecules, epochs=5, kind=["--model=MACELES"])


@pytest.fixture(scope="session")
def two_heads(tmp_path_factory, files, foundation) -> Path:
    """The same, fine-tuned on ethanol for a moment with replay: one more head."""
    flags = (
        f"--train_file={files.ethanol}", f"--foundation_model={foundation}",
        f"--pt_train_file={files.molecules}", "--multiheads_finetuning=True",
        "--valid_fraction=0.3", "--E0s=estimated", "--max_num_epochs=1",
    )  # fmt: skip
    return train(tmp_path_factory.mktemp("two_heads"), *flags).folder / "run.model"


@pytest.fixture
def model(foundation) -> torch.nn.Module:
    return torch.load(foundation, weights_only=False)


@pytest.fixture
def copper_model(copper_foundation) -> torch.nn.Module:
    return torch.load(copper_foundation, weights_only=False)


@pytest.fixture
def double() -> Iterator[None]:
    """Tensors are float64 where nothing else is said, as in MACE's trainings here."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def scratch_model(
    folder: Path,
    train_file: Path,
    *flags: str,
    epochs: int,
    kind: Sequence[str] = ("--model=ScaleShiftMACE",),
) -> Path:
    given = (*SCRATCH, *kind, f"--max_num_epochs={epochs}", *flags)
    return train(folder, *given, f"--train_file={train_file}").folder / "run.model"


@pytest.fixture
def finetune_flags(files, foundation) -> list[str]:
    """Fine-tune the foundation on ethanol energies."""
    return [f"--train_file={files.ethanol}", f"--foundation_model={foundation}", *FINETUNE]


@pytest.fixture
def one_batch_flags(tmp_path, files, foundation) -> list[str]:
    """The same with four structures to train on, which are one step."""
    return split_flags(tmp_path, read(files.ethanol, ":8"), 4, foundation)


@pytest.fixture
def settled_batch_flags(tmp_path, files, foundation) -> list[str]:
    """The same with forty, which settle the forces, in one step."""
    flags = split_flags(tmp_path, read(files.ethanols, ":44"), 40, foundation)
    return [*flags, "--weak_anchor=tangent", "--batch_size=40"]


def split_flags(folder: Path, frames: list[Atoms], count: int, foundation: Path) -> list[str]:
    """Fine-tune on the first structures; the others are for validation."""
    write(folder / "train.xyz", frames[:count])
    write(folder / "valid.xyz", frames[count:])
    return [
        f"--train_file={folder / 'train.xyz'}",
        f"--valid_file={folder / 'valid.xyz'}",
        f"--foundation_model={foundation}",
        *FINETUNE,
    ]


@pytest.fixture(scope="session")
def packed(tmp_path_factory, files) -> Path:
    """The ethanol energies as HDF5 files, as MACE's preprocessing writes them."""
    from mace.data import KeySpecification, load_from_xyz, save_configurations_as_HDF5

    folder = tmp_path_factory.mktemp("packed")
    keys = KeySpecification.from_defaults()
    _, configurations = load_from_xyz(str(files.ethanols), keys)
    for name, chosen in (("train", configurations[:42]), ("valid", configurations[42:])):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            save_configurations_as_HDF5(chosen, 0, file)
    return folder
