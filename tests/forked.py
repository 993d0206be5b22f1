"""Programs in processes of their own, forked from one that has the libraries already."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import torch

# what takes seconds to import; those of the absent host are passed over
PRELOADED = [
    "mace_weak.command.finetune",
    "matplotlib.pyplot",
    "mace.cli.run_train",
    "nequip.train",
]
FORKS = multiprocessing.get_context("forkserver")


def run_forked(
    main: Callable[[], object], words: Sequence[object], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Call ``main`` with these words as the command line, on one thread; the output is text."""
    command = [str(word) for word in words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    FORKS.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdout", "stderr")]
        arguments = (main, command, environment, Path.cwd(), streams)
        process = FORKS.Process(target=_forked, args=arguments)
        process.start()
        process.join()
        output = [stream.read_text() for stream in streams]
    status = process.exitcode
    return subprocess.CompletedProcess(command, -1 if status is None else status, *output)


def run_program(
    name: str, *arguments: object, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment, by its entry point, on one thread; the output is text."""
    program = Path(sys.executable).with_name(name)
    return run_forked(partial(_call, name), [program, *arguments], variables)


def _call(name: str) -> None:
    (program,) = entry_points(group="console_scripts", name=name)
    program.load()()


def _forked(
    main: Callable[[], object],
    words: list[str],
    environment: dict[str, str],
    folder: Path,
    streams: Sequence[Path],
) -> None:
    for descriptor, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = words
    torch.set_num_threads(1)
    importlib.invalidate_caches()
    main()
