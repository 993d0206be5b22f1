"""What is found in trainings, and how they are shown."""

from __future__ import annotations

import math

import pytest
from matplotlib.colors import to_hex
from written_logs import (
    THREE,
    nequip_epoch,
    problems,
    step,
    weak_step,
    write_mace,
    write_nequip,
)

from mace_weak.command.logs import read_trainings
from mace_weak.command.report import ERRORS, LOSSES, report_trainings, side_by_side
from mace_weak.errors import WeakLossError


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
    result = report_trainings([tmp_path], tmp_path / "pictures")
    shares = [row["weak, %"] for row in result.tables[1].records()]
    assert shares == pytest.approx([100 * 0.2 / 2.2, 50.0])
    assert result.written == [tmp_path / "pictures" / "report.png"]
    assert result.written[0].read_bytes().startswith(b"\x89PNG")
    assert result.status == 0


def test_a_picture_of_an_unknown_format_is_refused(tmp_path):
    write_mace(tmp_path, THREE)
    with pytest.raises(WeakLossError, match=r"name a \.png or \.pdf"):
        report_trainings([tmp_path], tmp_path / "report.doc")


def test_a_colour_has_one_meaning_in_all_panels(tmp_path):
    write_mace(tmp_path / "a", THREE)
    write_nequip(tmp_path / "b", [nequip_epoch(epoch, 2.0, weak_spatial=0.5) for epoch in range(3)])
    for number in range(3):
        write_mace(tmp_path / f"c{number}", THREE)
    trainings, _ = read_trainings([tmp_path])
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
