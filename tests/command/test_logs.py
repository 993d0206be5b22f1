"""Trainings from logs of both hosts as they may lie in a folder, and what is found in them."""

from __future__ import annotations

import csv
import json
import math

import pytest
from matplotlib.colors import to_hex

from mace_weak.command.reporting.logs import read_trainings
from mace_weak.command.reporting.overview import findings, reported
from mace_weak.command.reporting.training import BEFORE
from mace_weak.command.reporting.training_picture import ERRORS, LOSSES, side_by_side
from mace_weak.errors import WeakLossError


def step(epoch, loss, **parts):
    return {"mode": "opt", "epoch": epoch, "loss": loss, "time": 2.0, **parts}


def weak_step(epoch, supervised, taylor):
    parts = {"loss_supervised": supervised, "loss_taylor": taylor, "time_weak": 0.5}
    return step(epoch, supervised + taylor, **parts)


def evaluation(epoch, loss, head="Default"):
    return {
        "mode": "eval", "epoch": epoch, "loss": loss, "head": head,
        "rmse_e_per_atom": loss / 10, "rmse_f": None,
    }  # fmt: skip


def write_mace(folder, rows, *, log="", settings="max_num_epochs=3, other=1", tag="run_run-1"):
    for name in ("results", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "results" / f"{tag}_train.txt").write_text(text)
    (folder / "logs" / f"{tag}.log").write_text(log)
    (folder / "logs" / f"{tag}_debug.log").write_text(f"Namespace({settings})")
    return folder


def write_nequip(folder, rows, *, version="version_0", settings="trainer:\n  max_epochs: 3\n"):
    path = folder / "lightning_logs" / version / "metrics.csv"
    for each in (path.parent, folder / ".hydra"):
        each.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list({name: 0 for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    (folder / ".hydra" / "config.yaml").write_text(settings)
    return folder


def nequip_epoch(epoch, loss, **parts):
    columns = {f"train_loss_epoch/{name}": value for name, value in parts.items()}
    return {"epoch": epoch, "step": 0, "train_loss_epoch/weighted_sum": loss, **columns}


def read_one(path):
    (training,) = read_trainings([path])
    return training


def problems(path) -> str:
    return "\n".join(finding.problem for finding in findings(read_one(path)))


THREE = [evaluation(None, 9.0)] + [
    row
    for epoch in range(3)
    for row in (weak_step(epoch, 5.0 - epoch, 0.1), weak_step(epoch, 3.0 - epoch, 0.3),
                evaluation(epoch, 4.0 - epoch))
]  # fmt: skip


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
    assert training.losses == {"supervised": {1: 1.0}, "taylor": {1: 0.2}, "spatial": {}}
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
    names = [training.name for training in read_trainings([tmp_path / "a", tmp_path / "b"])]
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


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([step(0, 1.0), step(1, math.nan), step(2, 1.0)], "loss is not finite in epoch 1"),
        ([step(0, 1.0), step(1, 0.1), step(2, 1.5)], "supervised loss rose from 1 to 1.5"),
        ([weak_step(epoch, 3 - epoch, 0) for epoch in range(3)], "taylor term was never above"),
        ([step(0, 2.0), step(1, 1.0)], "2 of 3 epochs"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_found(tmp_path, rows, expected):
    found = problems(write_mace(tmp_path, rows))
    assert expected in found
    assert len(found.splitlines()) == 1


def test_stage_two_and_patience_are_no_findings(tmp_path):
    stage_two = "INFO: Changing loss based on Stage Two Weights"
    patience = "INFO: Stopping optimization after 2 epochs without improvement"
    rows = [step(0, 1.0), step(1, 500.0)]
    assert "rose" in problems(write_mace(tmp_path / "a", rows))
    assert problems(write_mace(tmp_path / "b", rows, log=f"{stage_two}\n{patience}")) == ""


@pytest.mark.parametrize(
    ("settings", "ended"),
    [
        ("  max_epochs: 3\n", True),
        ("  max_epochs: 3\n  max_steps: -1\n", True),
        ("  max_epochs: 3\n  max_steps: 10\n", False),
        ("  max_epochs: 3\n  callbacks:\n  - _target_: lightning.EarlyStopping\n", False),
        ("  max_epochs: ${epochs}\n", False),
    ],
)
def test_a_training_of_nequip_may_end_by_its_own_rules(tmp_path, settings, ended):
    rows = [nequip_epoch(0, 2.0), nequip_epoch(1, 1.0)]
    path = write_nequip(tmp_path, rows, settings=f"trainer:\n{settings}")
    assert ("2 of 3 epochs" in problems(path)) is ended


def test_the_table_has_the_share_of_the_weak_terms(tmp_path):
    write_mace(tmp_path / "mace", THREE)
    parts = {"supervised": 1.0, "weak_taylor": 0.5, "weak_spatial": 0.5}
    write_nequip(tmp_path / "nequip", [nequip_epoch(epoch, 2.0, **parts) for epoch in range(3)])
    result = reported([tmp_path], tmp_path / "pictures")
    shares = [row["weak, %"] for row in result.tables[1].records()]
    assert shares == pytest.approx([100 * 0.2 / 2.2, 50.0])
    assert result.written == [tmp_path / "pictures" / "report.png"]
    assert result.written[0].read_bytes().startswith(b"\x89PNG")
    assert result.status == 0


def test_a_picture_of_an_unknown_format_is_refused(tmp_path):
    write_mace(tmp_path, THREE)
    with pytest.raises(WeakLossError, match=r"name a \.png or \.pdf"):
        reported([tmp_path], tmp_path / "report.doc")


def test_a_colour_has_one_meaning_in_all_panels(tmp_path):
    write_mace(tmp_path / "a", THREE)
    write_nequip(tmp_path / "b", [nequip_epoch(epoch, 2.0, weak_spatial=0.5) for epoch in range(3)])
    for number in range(3):
        write_mace(tmp_path / f"c{number}", THREE)
    trainings = read_trainings([tmp_path])
    figure = side_by_side(trainings)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len({axis.get_xlim() for axis in shown}) == 1
    assert len({axis.get_ylim() for axis in shown if axis.get_title()}) == 1
    panels = {axis.get_title(): axis for axis in shown if axis.get_title()}
    assert list(panels) == [training.name for training in trainings]
    for training in trainings:
        drawn = {
            to_hex(line.get_color()): dict(zip(*line.get_data(), strict=True))
            for line in panels[training.name].get_lines()
            if line.get_linestyle() == "-"
        }
        expected = {LOSSES[name][1]: curve for name, curve in training.losses.items() if curve}
        assert drawn == expected
    colours = [colour for _, colour in (*LOSSES.values(), *ERRORS.values())]
    assert len(set(colours)) == len(colours)
