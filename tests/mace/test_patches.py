"""A patched MACE and a stock one give the same losses, to the last bit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import mace
import pytest
from commands import trained
from forked import SCRIPTS
from training import ALL_ELEMENTS, ATOMIC_ENERGIES

PATCHES = Path(__file__).parents[2] / "patches" / "mace"
COLUMNS = ("loss", "loss_supervised", "loss_taylor", "loss_spatial")


@pytest.fixture(scope="module")
def patched(tmp_path_factory) -> Path:
    """A folder with a patched copy of the installed MACE."""
    folder = tmp_path_factory.mktemp("patched")
    shutil.copytree(Path(mace.__file__).parent, folder / "mace")
    for name in (PATCHES / "series").read_text().split():
        with (PATCHES / name).open() as patch:
            subprocess.run(["patch", "-p1", "--fuzz=0"], cwd=folder, stdin=patch, check=True)
    return folder


def test_every_patch_is_in_the_series():
    names = (PATCHES / "series").read_text().split()
    assert sorted(names) == sorted(path.name for path in PATCHES.glob("*.patch"))


def test_both_routes_give_the_same_losses(tmp_path, patched, finetune_flags):
    flags = (*finetune_flags, "--loss=weak_piwsl", "--swa", "--start_swa=1")
    program = [str(SCRIPTS / "mace_run_train")]
    stock = trained(tmp_path / "stock", program, *flags)
    own = trained(
        tmp_path / "patched", program, *flags, PYTHONPATH=str(patched), MACE_WEAK_ACTIVATE="0"
    )
    for column in COLUMNS:
        assert stock.column(column) == own.column(column)
    armed = trained(tmp_path / "armed", program, *flags, PYTHONPATH=str(patched))
    assert armed.column("loss") == own.column("loss")


def test_a_patched_mace_keeps_the_energies_of_the_atoms(tmp_path, patched, finetune_flags):
    """With its own losses too."""
    flags = (*finetune_flags, *ALL_ELEMENTS, "--loss=weighted")
    run = trained(tmp_path, [str(SCRIPTS / "mace_run_train")], *flags, PYTHONPATH=str(patched))
    assert run.atomic_energies == list(ATOMIC_ENERGIES.values())
