"""``mace-weak report`` on trainings by nequip."""

from __future__ import annotations

import numpy as np
import pytest
from console import result_of, rows_of
from training import changed, train, weak_config

EPOCHS = 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory, finetune):
    """The same training with the supervised loss and with the weak one."""
    folder = tmp_path_factory.mktemp("runs")
    configs = {"plain": finetune, "piwsl": weak_config(finetune, "weak_piwsl")}
    return {
        name: train(folder / name, changed(config, trainer__max_epochs=EPOCHS))
        for name, config in configs.items()
    }


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return result_of("report", *(run.folder for run in runs.values()), "--out", out), out


def of_epoch(run, epoch, name):
    """Mean over the structures: nine in batches of four."""
    key = f"train_loss_step/{name}"
    steps = [row[key] for row in run.rows if row["epoch"] == epoch and key in row]
    return np.average(steps, weights=[4, 4, 1])


def test_the_parts_are_those_of_the_steps(runs, report):
    rows = rows_of(report[0], "Training loss", "run")
    for name, column in (("plain", "weighted_sum"), ("piwsl", "supervised")):
        for label, epoch in (("supervised, first", 0), ("last", EPOCHS - 1)):
            expected = pytest.approx(of_epoch(runs[name], epoch, column), rel=1e-4)
            assert rows[name][label] == expected
    parts = [of_epoch(runs["piwsl"], EPOCHS - 1, f"weak_{term}") for term in ("taylor", "spatial")]
    last = [rows["piwsl"][f"{term}, last"] for term in ("taylor", "spatial")]
    assert last == pytest.approx(parts, rel=1e-4)
    share = 100 * sum(parts) / of_epoch(runs["piwsl"], EPOCHS - 1, "weighted_sum")
    assert rows["piwsl"]["weak, %"] == pytest.approx(share, rel=1e-4)
    assert rows["plain"]["taylor, last"] is rows["plain"]["weak, %"] is None


def test_epochs_and_validation_are_those_of_the_run(runs, report):
    found, _ = report
    for row in found["tables"]["Trainings"]:
        assert (row["host"], row["epochs"], row["planned"]) == ("nequip", EPOCHS, EPOCHS)
    for name, row in rows_of(found, "Validation", "run").items():
        errors = [
            one["val0_epoch/per_atom_energy_rmse"]
            for one in runs[name].rows
            if "val0_epoch/weighted_sum" in one
        ]
        assert row["energy, meV/atom"] == pytest.approx(1e3 * errors[-1])
        assert row["best epoch"] == int(np.argmin(errors))
        assert row["last epoch"] == EPOCHS - 1


def test_the_picture_is_where_it_says(report):
    found, out = report
    assert found["written"] == [str(out / "report.png")]
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # that of the first start
def test_versions_of_the_logger_are_one_training(tmp_path, finetune):
    versioned = changed(finetune, trainer__logger__version=None)
    train(tmp_path, changed(versioned, trainer__max_epochs=1))
    again = f"++ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}"
    train(tmp_path, changed(versioned, trainer__max_epochs=3), again)
    assert len(list((tmp_path / "log").iterdir())) == 2
    found = result_of("report", tmp_path, "--out", tmp_path)
    (row,) = found["tables"]["Trainings"]
    assert (row["epochs"], row["planned"]) == (3, 3)
    assert found["notes"] == []
