"""The command ``mace-weak`` in a process of its own."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from forked import run_program

COMMAND = Path(sys.executable).with_name("mace-weak")


def mace_weak(
    *arguments: object, anew: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it on one thread; the output is text. ``anew``: as ``run_program`` does."""
    return run_program("mace-weak", *arguments, anew=anew, **environment)


def result_of(*arguments: object, anew: bool = False, **environment: str) -> dict[str, Any]:
    """What it says as JSON, of the same status as the process."""
    done = mace_weak(*arguments, "--json", anew=anew, **environment)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert done.returncode == found["status"]
    return found


def proposed_words(result: dict[str, Any]) -> list[str]:
    """The words of the training that ``check`` proposes."""
    (note,) = result["notes"]
    return shlex.split(note.replace("\\\n", ""), comments=True)


def rows_of(result: dict[str, Any], table: str, key: str) -> dict[str, dict[str, Any]]:
    """The rows of a table by their value of ``key``."""
    return {row[key]: row for row in result["tables"][table]}
