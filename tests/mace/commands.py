"""Training by command lines, in processes of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from training import Run, arguments


def command(
    folder: Path, program: list[str], *flags: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a training command in ``folder``; the output is text."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [*program, *arguments(folder, *flags)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def trained(folder: Path, program: list[str], *flags: str, **environment: str) -> Run:
    """Run a training command that must succeed."""
    done = command(folder, program, *flags, **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Run(folder)
