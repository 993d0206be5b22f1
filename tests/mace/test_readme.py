"""The README says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
from forked import run_program
from readme import updated
from readme_commands import calls, users_folder
from readme_tables import require_tests
from test_roads import OTHER_ROADS
from training import FINETUNE, Run, arguments


def test_the_tables_are_up_to_date():
    for path, text in updated().items():
        assert path.read_text() == text, "run make readme"


def test_the_other_roads_have_their_tests():
    require_tests(Path(__file__).parent, OTHER_ROADS)


CALLS = calls("mace_run_train")
SHRUNK = ["--name=run", "--device=cpu", "--max_num_epochs=1", "--default_dtype=float64"]


@pytest.mark.parametrize("words", CALLS.values(), ids=CALLS)
def test_the_calls_run(tmp_path, monkeypatch, words, files, foundation, request):
    """With a file for the downloaded model, on the CPU, and shrunk."""
    if "--model=PolarMACE" in words:
        foundation = request.getfixturevalue("polar_foundation")
    folder = users_folder(tmp_path, files.ethanol)
    flags = [word for word in words if word != "..."]
    if "..." in words:
        flags += ["--train_file=train.xyz", *FINETUNE]
    if not any(word.endswith("_scratch.yaml") for word in words):
        flags += [f"--foundation_model={foundation}"]
    if any(word.endswith("replay.yaml") for word in words):
        flags += [f"--pt_train_file={files.molecules}"]
    monkeypatch.chdir(folder)
    done = run_program(
        "mace_run_train", *arguments(folder, *flags, *SHRUNK, f"--work_dir={folder}")
    )
    assert done.returncode == 0, done.stderr[-2000:]
    weak = not any(word.endswith(("_scratch.yaml", "--loss=weighted")) for word in words)
    assert (max(step.get("loss_taylor", 0) for step in Run(folder).steps) > 0) == weak
