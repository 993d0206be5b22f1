"""MACE's foundation models by their names, of which a stand-in lies where MACE keeps them."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath

import numpy as np
import pytest
from ase.io import read
from mace.calculators.foundations_models import mace_mp_urls, mace_off_urls
from training import FINETUNE, train

from mace_weak.command.models import load_model, predict
from mace_weak.errors import WeakLossError
from recipes.quickstart.evaluate import predicted
from recipes.quickstart.mace_host import model_file

SMALL = PurePosixPath(mace_mp_urls["small"]).name
KEPT = {  # the file's name where MACE keeps it
    "small": "".join(character for character in SMALL if character.isalnum() or character == "_"),
    "small_off": PurePosixPath(mace_off_urls["small"]).name,
    "mace_omol": "MACE-omol-0-extra-large-1024.model",
}


@pytest.fixture
def kept(tmp_path, foundation, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "mace").mkdir(parents=True)
    for file in KEPT.values():
        shutil.copy(foundation, tmp_path / "cache" / "mace" / file)


@pytest.fixture
def small(kept) -> str:
    return "small"


def test_it_is_the_anchor_of_a_fine_tuning(tmp_path, files, small):
    flags = (*FINETUNE, f"--train_file={files.ethanol}", f"--foundation_model={small}")
    run = train(tmp_path / "run", *flags, "--loss=weak_taylor")
    assert "anchored on a frozen ScaleShiftMACE" in run.log
    assert max(run.column("loss_taylor")) > 0


def test_the_recipes_predict_by_it(files, foundation, small):
    by_name, by_file = (
        predicted(model_file(model), files.ethanol, device="cpu")
        for model in (small, str(foundation))
    )
    for one, other in zip(by_name, by_file, strict=True):
        assert np.array_equal(one.arrays["predicted_forces"], other.arrays["predicted_forces"])


def test_a_name_that_mace_does_not_know_is_refused(files):
    with pytest.raises(SystemExit, match="no model file 'smal'; by name MACE has small, medium"):
        model_file("smal")
    with pytest.raises(SystemExit, match="no model file 'smal'; by name MACE has"):
        predicted("smal", files.ethanol, device="cpu")


@pytest.mark.parametrize("name", KEPT)
def test_the_command_predicts_by_all_names_of_mace_run_train(files, foundation, kept, name):
    frames = read(files.ethanol, ":2")
    models = [load_model(model, dtype="float64") for model in (name, str(foundation))]
    by_name, by_file = (predict(model, frames) for model in models)
    for one, other in zip(by_name, by_file, strict=True):
        assert np.array_equal(one.forces, other.forces)


def test_a_name_that_the_command_does_not_know_is_refused():
    with pytest.raises(WeakLossError, match=r"no model file 'smal'; .* small, .* small_off"):
        load_model("smal")
