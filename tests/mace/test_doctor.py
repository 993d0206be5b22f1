"""``mace-weak doctor`` with MACE: it sees what a training would see."""

from __future__ import annotations

import os
import subprocess
import sys
import venv

from console import result_of, rows_of

from mace_weak.losses import LOSSES


def test_a_sound_environment_has_no_findings():
    found = result_of("doctor", anew=True)
    assert found["findings"] == []
    roads = rows_of(found, "Training commands", "command")
    assert roads["mace_run_train"]["extended by"] == "entry point torch.backends"
    for road in roads.values():
        assert road["weak losses"].split() == list(LOSSES)


def test_a_road_that_is_off_is_found():
    off = ("MACE_WEAK_ACTIVATE", "TORCH_DEVICE_BACKEND_AUTOLOAD")
    found = result_of("doctor", anew=True, **dict.fromkeys(off, "0"))
    (finding,) = found["findings"]
    assert finding["problem"].startswith("mace_run_train does not offer weak_taylor")
    assert f"unset {' and '.join(off)}" in finding["mend"]
    roads = rows_of(found, "Training commands", "command")
    assert roads["python -m mace_weak.mace"]["weak losses"].split() == list(LOSSES)


def test_an_environment_without_the_command_is_told(tmp_path):
    """One that sees the packages of another, but not its programs."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", "from mace_weak.command.app import main; main()", "doctor"],
        env={"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mace_run_train does not offer" in done.stdout, done.stderr
