"""What the tests of ``mace-weak finetune`` share: calls that are stopped on the way, and data."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.io import read, write
from console import COMMAND
from datafiles import QUICKSTART
from predictions import relabelled

FEW_STEPS = "--steps=500"  # of distilling


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


def softer(path: Path, foundation: Path) -> Path:
    """Ethanol on a softer surface than the foundation model's, with scatter: of another scale."""
    ethanol = read(QUICKSTART / "data" / "ethanol_pbe_test.xyz", ":24")
    frames = read(relabelled(path, ethanol, foundation), ":")
    energies = np.array([atoms.info["REF_energy"] for atoms in frames])
    softened = energies.mean() + 0.4 * (energies - energies.mean())
    scatter = np.random.default_rng(0).normal(scale=0.85 * softened.std(), size=len(frames))
    for atoms, energy in zip(frames, softened + scatter, strict=True):
        atoms.info["REF_energy"] = energy
    write(path, frames)
    return path
