"""``mace-weak report`` on trainings by MACE."""

from __future__ import annotations

import numpy as np
import pytest
from console import mace_weak, result_of, rows_of
from training import SCRATCH, train

EPOCHS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory, files, foundation):
    """The same training with the supervised loss and with the weak one."""
    folder = tmp_path_factory.mktemp("runs")
    flags = (
        f"--train_file={files.ethanol}", f"--foundation_model={foundation}", "--E0s=estimated",
        "--valid_fraction=0.3", "--multiheads_finetuning=False", f"--max_num_epochs={EPOCHS}",
    )  # fmt: skip
    return {
        name: train(folder / name, *flags, f"--loss={loss}")
        for name, loss in (("plain", "weighted"), ("piwsl", "weak_piwsl"))
    }


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "curves.png"
    return result_of("report", *(run.folder for run in runs.values()), "--out", out), out


def of_epoch(run, epoch, column):
    return np.mean([step[column] for step in run.steps if step["epoch"] == epoch])


def test_the_parts_are_those_of_maces_results(runs, report):
    rows, weak = rows_of(report[0], "Training loss", "run"), runs["piwsl"]
    for name, column in (("plain", "loss"), ("piwsl", "loss_supervised")):
        for label, epoch in (("supervised, first", 0), ("last", EPOCHS - 1)):
            assert rows[name][label] == pytest.approx(of_epoch(runs[name], epoch, column))
    parts = {term: of_epoch(weak, EPOCHS - 1, f"loss_{term}") for term in ("taylor", "spatial")}
    for term, part in parts.items():
        assert rows["piwsl"][f"{term}, last"] == pytest.approx(part)
        assert rows["plain"][f"{term}, last"] is None
    share = 100 * sum(parts.values()) / of_epoch(weak, EPOCHS - 1, "loss")
    assert rows["piwsl"]["weak, %"] == pytest.approx(share)
    assert 0 < share < 100


def test_epochs_and_times_are_those_of_the_run(runs, report):
    rows = rows_of(report[0], "Trainings", "run")
    for row in rows.values():
        assert (row["host"], row["epochs"], row["planned"]) == ("mace-torch", EPOCHS, EPOCHS)
    seconds = [sum(runs["piwsl"].column(name)) for name in ("time_weak", "time")]
    share = rows["piwsl"]["weak terms, % of the time"]
    assert share == pytest.approx(100 * seconds[0] / seconds[1])
    assert rows["plain"]["weak terms, % of the time"] is None


def test_validation_is_maces_own(runs, report):
    rows = rows_of(report[0], "Validation", "run")
    for name, run in runs.items():
        losses = [row["loss"] for row in run.rows if row["mode"] == "eval"]
        errors = [row["rmse_e_per_atom"] for row in run.rows if row["mode"] == "eval"]
        best = int(np.argmin(losses)) - 1
        assert rows[name]["best epoch"] == ("before" if best < 0 else best)
        assert rows[name]["energy, meV/atom"] == pytest.approx(1e3 * errors[-1])


def test_the_picture_is_where_it_says(report):
    found, out = report
    assert found["written"] == [str(out)]
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size > 10_000


def test_a_restart_is_one_training(tmp_path, files):
    flags = (*SCRATCH, f"--train_file={files.molecules}")
    train(tmp_path / "run", *flags, "--max_num_epochs=2")
    run = train(tmp_path / "run", *flags, "--max_num_epochs=4", "--restart_latest")
    epochs = [step["epoch"] for step in run.steps]
    assert epochs.count(1) == 2 * epochs.count(0)  # MACE repeats the checkpoint's epoch
    found = result_of("report", tmp_path, "--out", tmp_path)
    (row,) = found["tables"]["Trainings"]
    assert (row["run"], row["epochs"], row["planned"]) == ("run", 4, 4)
    assert "run was restarted: 1 epochs" in found["notes"][0]


def test_a_folder_without_a_log_is_bad_use(tmp_path):
    done = mace_weak("report", tmp_path, f"--out={tmp_path / 'curves.png'}")
    assert done.returncode == 2
    assert "has no log" in done.stderr
    assert list(tmp_path.iterdir()) == []
