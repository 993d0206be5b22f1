"""What is read from logs of both hosts."""

from __future__ import annotations

import math

import pytest
from written_logs import (
    THREE,
    evaluation,
    nequip_epoch,
    read_one,
    step,
    weak_step,
    write_mace,
    write_nequip,
)

from mace_weak.command.logs import BEFORE, read_trainings
from mace_weak.command.report import findings, report_trainings, weak_share
from mace_weak.errors import WeakLossError


def test_mace_gives_means_of_epochs(tmp_path):
    training = read_one(write_mace(tmp_path, THREE))
    assert training.losses["supervised"] == {0: 4.0, 1: 3.0, 2: 2.0}
    assert training.losses["taylor"] == pytest.approx({0: 0.2, 1: 0.2, 2: 0.2})
    assert training.losses["spatial"] == {}
    assert training.validation == {BEFORE: 9.0, 0: 4.0, 1: 3.0, 2: 2.0}
    assert training.errors["energy"] == pytest.approx({BEFORE: 900.0, 0: 400.0, 1: 300.0, 2: 200.0})
    assert all(math.isnan(value) for value in training.errors["forces"].values())
    assert (training.epochs, training.planned, training.best) == (3, 3, 2)
    assert training.weak_time == pytest.approx(0.25)
    assert list(findings(training)) == []


def test_the_forces_of_a_tangent_anchor_are_weak_parts(tmp_path):
    rows = [{**weak_step(0, 1.0, 0.5), "loss_forces": 8.5}]
    assert weak_share(read_one(write_mace(tmp_path / "mace", rows))) == pytest.approx(90.0)
    rows = [nequip_epoch(0, 10.0, supervised=1.0, weak_taylor=0.5, weak_forces=8.5)]
    assert weak_share(read_one(write_nequip(tmp_path / "nequip", rows))) == pytest.approx(90.0)


def test_rows_without_an_epoch_are_left_out(tmp_path):
    """As Lightning's LearningRateMonitor writes them."""
    rows = [{"step": 0, "lr-Adam": 0.01}, nequip_epoch(0, 5.0), nequip_epoch(1, 4.0)]
    training = read_one(write_nequip(tmp_path, rows))
    assert training.losses["supervised"] == {0: 5.0, 1: 4.0}


@pytest.mark.parametrize("name", ["run.txt", "metrics.csv"])
def test_what_is_no_text_is_no_log(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(WeakLossError, match="name the folder of a run"):
        read_trainings([path])


def test_a_plain_loss_is_all_supervised(tmp_path):
    training = read_one(write_mace(tmp_path, [step(0, 2.0), step(0, 4.0)]))
    assert training.losses["supervised"] == {0: 3.0}
    assert training.weak == []
    assert training.weak_time is None


def test_steps_without_the_weak_term_count_as_zero_of_it(tmp_path):
    rows = [weak_step(0, 2.0, 0.4), step(0, 6.0, time_weak=0.0), step(1, 5.0, time_weak=0.0)]
    training = read_one(write_mace(tmp_path, rows))
    assert training.losses["supervised"] == {0: 4.0, 1: 5.0}
    assert training.losses["taylor"] == {0: 0.2}


def test_a_restart_of_mace_replaces_what_it_repeats(tmp_path):
    rows = [*THREE, evaluation(None, 3.0), step(1, 1.5), evaluation(1, 1.0), step(2, 0.5)]
    training = read_one(write_mace(tmp_path, rows))
    assert training.losses["supervised"] == {0: 4.0, 1: 1.5, 2: 0.5}
    assert training.validation == {BEFORE: 9.0, 0: 4.0, 1: 1.0}
    assert training.superseded == 2


def test_a_training_of_the_same_name_replaces_all(tmp_path):
    rows = [*THREE, evaluation(None, 8.0), step(0, 7.0), evaluation(0, 6.0)]
    training = read_one(write_mace(tmp_path, rows))
    assert training.losses["supervised"] == {0: 7.0}
    assert training.losses["taylor"] == {}
    assert training.validation == {BEFORE: 8.0, 0: 6.0}
    assert training.superseded == 3


def test_the_last_head_chooses_the_model(tmp_path):
    rows = [step(0, 1.0), evaluation(0, 5.0, head="pt_head"), evaluation(0, 2.0)]
    assert read_one(write_mace(tmp_path, rows)).validation == {0: 2.0}


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    (path,) = (write_mace(tmp_path, THREE) / "results").iterdir()
    whole = path.read_text()
    path.write_text(whole[:-20])
    assert read_one(tmp_path).validation == {BEFORE: 9.0, 0: 4.0, 1: 3.0}
    path.write_text("{\n" + whole)
    with pytest.raises(WeakLossError, match=r"line 1 of .* is not one of MACE's results"):
        read_one(tmp_path)


def test_torn_lines_and_trainings_that_have_not_begun_are_left_out(tmp_path):
    """As a run that died leaves them, and one of an array of jobs that waits."""
    (path,) = (write_mace(tmp_path / "good", THREE) / "results").iterdir()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][:9] + "\n", *lines[2:]]))
    write_mace(tmp_path / "waiting", [])
    (training,), not_begun = read_trainings([tmp_path])
    assert training.validation == read_one(write_mace(tmp_path / "whole", THREE)).validation
    assert "waiting" in str(not_begun[0])
    assert "has no training step yet" in str(not_begun[0])
    found = report_trainings([tmp_path], tmp_path / "report.png").findings
    assert any("left out: " in finding.problem for finding in found)


def test_nequips_own_means_win_over_the_steps_in_its_log(tmp_path):
    name = "train_loss_step/weighted_sum"
    rows = [
        {"epoch": 0, "step": 1, name: 2.0},
        {"epoch": 0, "step": 3, name: 4.0},
        {"epoch": 1, "step": 5, name: 9.0},
        nequip_epoch(1, 1.2, supervised=1.0, weak_taylor=0.2),
        {"epoch": 1, "step": 5, "val0_epoch/weighted_sum": 0.3, "val0_epoch/forces_rmse": 0.05},
    ]
    training = read_one(write_nequip(tmp_path, rows))
    assert training.losses == {
        "supervised": {1: 1.0}, "taylor": {1: 0.2}, "spatial": {}, "forces": {},
    }  # fmt: skip
    assert training.validation == {1: 0.3}
    assert training.errors["forces"] == pytest.approx({1: 50.0})
    rows = [row for row in rows if name in row]
    assert read_one(write_nequip(tmp_path, rows)).losses["supervised"] == {0: 3.0, 1: 9.0}


def test_versions_of_a_logger_are_one_training_in_their_order(tmp_path):
    write_nequip(tmp_path, [nequip_epoch(epoch, 5.0) for epoch in range(3)])
    write_nequip(tmp_path, [nequip_epoch(2, 4.0)], version="version_9")
    write_nequip(tmp_path, [nequip_epoch(2, 3.0), nequip_epoch(3, 2.0)], version="version_10")
    training = read_one(tmp_path)
    assert training.losses["supervised"] == {0: 5.0, 1: 5.0, 2: 3.0, 3: 2.0}
    assert training.superseded == 2
    alone = read_one(tmp_path / "lightning_logs" / "version_0" / "metrics.csv")
    assert alone.losses["supervised"] == {0: 5.0, 1: 5.0, 2: 5.0}
    assert alone.planned == 3


def test_trainings_have_the_shortest_names_that_tell_them_apart(tmp_path):
    for place in ("a/run", "b/run", "b/other"):
        write_mace(tmp_path / place, THREE)
    write_mace(tmp_path / "a/run", THREE, tag="run_run-2")
    names = [training.name for training in read_trainings([tmp_path / "a", tmp_path / "b"])[0]]
    assert names == ["a/run/run_run-1", "a/run/run_run-2", "b/other", "b/run"]
    assert read_one(tmp_path / "b/other").name == "other"


@pytest.mark.parametrize("content", [None, "a, b"])
def test_a_folder_without_a_log_says_what_was_looked_for(tmp_path, content):
    if content:
        (tmp_path / "notes.csv").write_text(content)
    with pytest.raises(WeakLossError, match=r"results/.*_train\.txt.*metrics\.csv.*CSVLogger"):
        read_trainings([tmp_path])


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(WeakLossError, match="not written by Lightning's CSVLogger"):
        read_trainings([path])
    write_nequip(tmp_path / "run", [{"epoch": 0, "step": 1, "accuracy": 1.0}])
    with pytest.raises(WeakLossError, match="no training loss of nequip"):
        read_trainings([tmp_path / "run"])
