"""Tables, JSON and exit status of the command, and how it refuses bad use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from console import mace_weak
from labelled import rattled, written

from mace_weak.command.app import app
from mace_weak.command.output import Finding, Result, Table, as_text, show

SUBCOMMANDS = [command.callback.__name__ for command in app.registered_commands]


def test_json_has_the_same_as_the_tables(capsys):
    table = Table("Errors", ("model", "RMSE"), [["one", 1.5], ["two", float("nan")]])
    result = Result([table], [Finding("wrong", "mend")], [Path("a.png")])
    assert show(result, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {
        "status": 1,
        "tables": {"Errors": [{"model": "one", "RMSE": 1.5}, {"model": "two", "RMSE": None}]},
        "findings": [{"problem": "wrong", "mend": "mend", "wrong": False}],
        "notes": [],
        "written": ["a.png"],
    }
    assert show(result, as_json=False) == 1
    printed = capsys.readouterr().out
    for text in ("Errors", "one", "1.5", "wrong", "mend", "a.png"):
        assert text in printed
    assert show(Result([table]), as_json=False) == 0


def test_numbers_are_short():
    values = (1 / 3, 123456.0, True, None, float("nan"), "x")
    assert [as_text(value) for value in values] == ["0.33333", "1.2346e+05", "yes", "", "", "x"]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(subcommand):
    done = mace_weak(subcommand, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Example: mace-weak {subcommand}" in " ".join(done.stdout.split())
    assert "--json" in done.stdout


def test_the_exit_status_tells_fine_from_found_from_bad_use(tmp_path):
    frames = rattled(8)
    good = written(tmp_path / "good.xyz", frames)
    twice = written(tmp_path / "twice.xyz", [*frames, frames[0]])
    done = mace_weak("check", good, "--json")
    assert (done.returncode, json.loads(done.stdout)["findings"]) == (0, [])
    done = mace_weak("check", twice, "--json")
    assert done.returncode == json.loads(done.stdout)["status"] == 1
    done = mace_weak("check", tmp_path / "none.xyz")
    assert done.returncode == 2
    assert done.stderr == f"mace-weak: there is no file '{tmp_path / 'none.xyz'}'\n"
    broken = tmp_path / "broken.xyz"
    broken.write_text("3\nnothing\nH 0 0\n")
    done = mace_weak("check", broken)
    assert done.returncode == 2
    assert "cannot be read from structure" in done.stderr
    assert mace_weak("check", good, "--nothing").returncode == 2


def test_help_is_fast():
    """The heavy libraries are imported by the subcommands that need them."""
    heavy = "{'torch', 'ase', 'numpy', 'sklearn', 'matplotlib', 'mace', 'nequip'}"
    script = f"import sys, mace_weak.command.app; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
