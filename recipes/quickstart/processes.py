"""Trainings in processes of their own: with progress, and kept between calls."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

SCRIPTS = Path(sys.executable).parent


def folder_for(out: Path, name: str, settings: Sequence[str], config: Path) -> Path:
    """A folder of ``out`` named after all that a training depends on.

    So a model is taken from an earlier call only if it was trained alike.
    """
    content = " ".join([*settings, config.read_text()])
    return out / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def train(
    folder: Path,
    command: Sequence[str],
    *,
    epochs: int,
    epoch: re.Pattern[str],
    threads: int,
    quiet: bool = False,
) -> None:
    """Run a training command; ``epoch`` finds the number of the epoch in a line of its output.

    Raises:
        SystemExit: if the training fails, with the end of its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [str(SCRIPTS / command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    output: list[str] = []
    with tqdm(total=epochs, desc=folder.name, unit="epoch", disable=quiet) as bar:
        for line in process.stdout or ():
            output.append(line)
            if found := epoch.search(line):
                bar.update(int(found[1]) + 1 - bar.n)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{''.join(output[-30:])}")
