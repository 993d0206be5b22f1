"""The commands in the READMEs and in ``docs``, for the tests that run them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "tests" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READMES += sorted((ROOT / "recipes").glob("*/*.md"))  # patches: see test_patches.py


def commands_of(readme: Path) -> list[list[str]]:
    """The words of each command, without comments, of the blocks of shell code."""
    blocks = re.findall(r"```sh\n(.*?)```", readme.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words]


def calls(program: str) -> dict[str, list[str]]:
    """The calls of a program in all READMEs, by a name for the test that runs them."""
    return {
        f"{readme.relative_to(ROOT)}, command {number}": words[1:]
        for readme in READMES
        for number, words in enumerate(commands_of(readme))
        if words[0] == program
    }


class BatchCall(NamedTuple):
    """A call of ``sbatch``."""

    options: list[str]
    script: Path
    arguments: list[str]


def batch_calls() -> dict[str, BatchCall]:
    """Those of all READMEs, by their names."""
    found = {}
    for name, words in calls("sbatch").items():
        at = next(index for index, word in enumerate(words) if word.endswith(".slurm"))
        found[name] = BatchCall(words[:at], ROOT / words[at], words[at + 1 :])
    return found


def users_folder(folder: Path, train_file: Path) -> Path:
    """A folder to call from: a clone, and a training file under the READMEs' name."""
    for name in ("recipes", "mace_weak"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "train.xyz").symlink_to(train_file)
    return folder
