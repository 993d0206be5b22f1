"""Models trained with a weak loss go on living where mace-weak is not installed."""

from __future__ import annotations

import subprocess
import sys
from zipfile import ZipFile

import pytest
from conftest import package
from stock import BUILD, COMPILED, ENERGY_OF, energy_in, stock, without_mace_weak
from training import Run, base_config, changed, train, weak_config

from mace_weak.nequip.train.losses import MANAGER

__all__ = ["without_mace_weak"]  # a fixture


@pytest.fixture(scope="session")
def weak_run(tmp_path_factory, files) -> Run:
    """EMA, so that the checkpoint's model is not its last state; periodic, so that it compiles."""
    config = base_config(
        files.copper,
        types=["Cu"],
        labels=["total_energy", "forces", "stress"],
        module="nequip.train.EMALightningModule",
    )
    return train(tmp_path_factory.mktemp("weak"), weak_config(config, weak_taylor_weight=100))


def test_a_checkpoint_names_only_nequips_classes(weak_run):
    stored = weak_run.state["hyper_parameters"]
    module = stored["info_dict"]["training_module"]
    assert module["_target_"] == "nequip.train.ema.EMALightningModule"
    assert module["loss"] == stored["loss"]
    assert stored["loss"]["_target_"] == MANAGER
    stored["info_dict"].pop("versions")  # nequip lists the extensions that were there
    assert "mace_weak" not in str(stored)


def test_checkpoints_and_packages_load_without_mace_weak(
    tmp_path, files, weak_run, without_mace_weak
):
    here = subprocess.run(
        [sys.executable, "-c", ENERGY_OF.replace("import mace_weak", "import no_such_module"),
         weak_run.checkpoint, files.copper],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    there = stock(without_mace_weak, tmp_path, "-c", ENERGY_OF, weak_run.checkpoint, files.copper)
    zipped = tmp_path / "model.nequip.zip"
    stock(without_mace_weak, tmp_path, "-c", BUILD, "build", weak_run.checkpoint, zipped)
    packaged = stock(without_mace_weak, tmp_path, "-c", ENERGY_OF, zipped, files.copper)
    assert energy_in(there) == pytest.approx(energy_in(here), rel=1e-6)
    assert energy_in(packaged) == pytest.approx(energy_in(here), rel=1e-6)


@pytest.mark.slow
def test_a_model_compiles_without_mace_weak(tmp_path, files, weak_run, without_mace_weak):
    there = stock(without_mace_weak, tmp_path, "-c", ENERGY_OF, weak_run.checkpoint, files.copper)
    compiled = tmp_path / "model.nequip.pt2"
    stock(without_mace_weak, tmp_path, "-c", "from nequip.scripts.compile import main; main()",
          weak_run.checkpoint, compiled, "--mode", "aotinductor", "--target", "ase",
          "--device", "cpu")  # fmt: skip
    output = stock(without_mace_weak, tmp_path, "-c", COMPILED, compiled, files.copper)
    assert energy_in(output) == pytest.approx(energy_in(there), rel=1e-5)


def test_a_package_made_here_holds_nothing_of_mace_weak(tmp_path, foundation, finetune):

    run = train(tmp_path / "run", weak_config(changed(finetune, trainer__max_epochs=1)))
    path = package(run.checkpoint, tmp_path / "tuned.nequip.zip")
    with ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if "mace_weak" in name]
