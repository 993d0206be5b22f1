"""The README says what the code does."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from commands import SCRIPTS, command
from readme import updated
from readme_tables import README, require_tests
from test_roads import OTHER_ROADS
from training import Run


def test_the_tables_are_up_to_date():
    for path, text in updated().items():
        assert path.read_text() == text, "run make readme"


def test_the_other_roads_have_their_tests():
    require_tests(Path(__file__).parent, OTHER_ROADS)


@pytest.fixture
def first_call() -> list[str]:
    """The flags of the README's first real call."""
    section = README.read_text().split("## MACE on your own data")[1]
    call = section.split("```sh")[1].split("```")[0].split("mace_run_train", 1)[1]
    return shlex.split(call.replace("\\\n", " "))


def test_the_first_real_call_runs(tmp_path, first_call, files, foundation):
    """With a file for the downloaded model, on the CPU, and shrunk."""
    shrunk = {
        "--foundation_model": foundation,
        "--train_file": files.ethanol,
        "--device": "cpu",
        "--max_num_epochs": 2,
        "--default_dtype": "float64",
        "--name": "run",
    }
    flags = [flag for flag in first_call if flag.split("=")[0] not in shrunk]
    assert len(flags) + len(shrunk) == len(first_call)
    overrides = [f"{name}={value}" for name, value in shrunk.items()]
    done = command(tmp_path, [str(SCRIPTS / "mace_run_train")], *flags, *overrides)
    assert done.returncode == 0, done.stderr[-2000:]
    assert max(Run(tmp_path).column("loss_taylor")) > 0
