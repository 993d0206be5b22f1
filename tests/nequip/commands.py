"""nequip's commands in processes of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from forked import SCRIPTS
from training import Config, Run, command, write_config


def run_command(
    *arguments: str | Path, scripts: Path = SCRIPTS
) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment in ``scripts``; the output is text."""
    program, *rest = (str(argument) for argument in arguments)
    return subprocess.run(
        [str(scripts / program), *rest],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def trained(folder: Path, config: Config, *overrides: str) -> Run:
    """Run ``nequip-train``, which must succeed."""
    write_config(folder, config)
    done = run_command(*command(folder, *overrides))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Run(folder)
