"""Calls of ``mace-weak finetune`` that are stopped on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

from console import COMMAND


def killed_when(condition: Callable[[], object], *arguments: object) -> None:
    """Run the command, and kill it and its trainer when the condition holds."""
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not condition():
        assert process.poll() is None, "it ended before the condition held"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
