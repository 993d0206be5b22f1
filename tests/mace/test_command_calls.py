"""Each call of ``mace-weak`` in the READMEs, with small files under their names."""

from __future__ import annotations

import json

import pytest
from ase.io import read, write
from console import mace_weak
from readme_commands import ROOT, calls
from training import FINETUNE, train

PACKAGE = ".nequip.zip"  # of the other host: see nequip/test_finetune.py
POLAR = "polar.model"  # of a PolarMACE: see recipes/test_dimers.py
CALLS = {
    " ".join(words): words
    for words in calls("mace-weak").values()
    if not any(word.endswith(PACKAGE) or word == POLAR for word in words)
}
SHRUNK = {
    "evaluate": ("--probes=2", "--steps=20"),
    "select": ("--n=3",),
    "finetune": ("--steps=20",),
}


@pytest.fixture(scope="module")
def users(tmp_path_factory, files, foundation):
    """A folder with the files and trainings that the READMEs name."""
    folder = tmp_path_factory.mktemp("users")
    names = {"train.xyz": files.ethanol, "test.xyz": files.ethanol_forces,
             "pool.xyz": files.molecules, "my_model.model": foundation}  # fmt: skip
    for name, path in names.items():
        (folder / name).symlink_to(path)
    for name in {word for words in CALLS.values() for word in words if word.startswith("recipes/")}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, read(ROOT / name, ":12"))
    flags = (f"--train_file={files.ethanol}", f"--foundation_model={foundation}", *FINETUNE)
    for name, loss in (("plain", "weighted"), ("weak", "weak_taylor")):
        train(folder / "results" / name, *flags, f"--loss={loss}", "--max_num_epochs=1")
    return folder


@pytest.mark.parametrize("words", CALLS.values(), ids=CALLS)
def test_the_calls_run(monkeypatch, users, foundation, words):
    """``small`` is MACE-MP-0, for which a small model stands in."""
    monkeypatch.chdir(users)
    arguments = [str(foundation) if word == "small" else word for word in words]
    done = mace_weak(*arguments, *SHRUNK.get(words[0], ()), "--json")
    assert done.returncode in (0, 1), done.stderr[-3000:]
    result = json.loads(done.stdout)
    for path in result["written"]:
        assert (users / path).stat().st_size > 0
    assert result["tables"]
