"""MACE's foundation models by their names, of which a stand-in lies where MACE keeps them."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath

import numpy as np
import pytest
from mace.calculators.foundations_models import mace_mp_urls
from mace_host import model_file, predict
from training import FINETUNE, train


@pytest.fixture
def small(tmp_path, foundation, monkeypatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = PurePosixPath(mace_mp_urls["small"]).name
    (tmp_path / "cache" / "mace").mkdir(parents=True)
    kept = "".join(character for character in url if character.isalnum() or character == "_")
    shutil.copy(foundation, tmp_path / "cache" / "mace" / kept)
    return "small"


def test_it_is_the_anchor_of_a_fine_tuning(tmp_path, files, small):
    flags = (*FINETUNE, f"--train_file={files.ethanol}", f"--foundation_model={small}")
    run = train(tmp_path / "run", *flags, "--loss=weak_taylor")
    assert "anchored on a frozen ScaleShiftMACE" in run.log
    assert max(run.column("loss_taylor")) > 0


def test_the_recipes_predict_by_it(files, foundation, small):
    by_name, by_file = (predict(model, files.ethanol, "cpu") for model in (small, str(foundation)))
    for one, other in zip(by_name, by_file, strict=True):
        assert np.array_equal(one.arrays["predicted_forces"], other.arrays["predicted_forces"])


def test_a_name_that_mace_does_not_know_is_refused():
    with pytest.raises(SystemExit, match="no model file 'smal'; by name MACE has small, medium"):
        model_file("smal")
