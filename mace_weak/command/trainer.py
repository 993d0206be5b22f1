"""The hosts' own training commands, run with their output in a file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mace_weak.errors import WeakLossError


def run_trainer(
    name: str,
    arguments: Sequence[str],
    output: Path,
    *,
    epochs: int = 0,
    epoch: re.Pattern[str] | None = None,
    kept_open: Sequence[int] = (),
) -> None:
    """Run a command of this environment; what it prints is added to the file ``output``.

    ``epoch`` finds the number of an epoch, of ``epochs``, in a line of it, for a progress bar. The
    command inherits the file descriptors ``kept_open``.

    Raises:
        WeakLossError: if the command is missing or fails.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    program = Path(sys.executable).with_name(name)
    if not program.is_file():
        raise WeakLossError(f"there is no '{program}': reinstall the host of the model")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    process = subprocess.Popen(
        [str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        pass_fds=kept_open,
    )
    last = ""
    try:
        with (
            Progress(
                *columns, console=console, transient=True, disable=not console.is_terminal
            ) as bar,
            output.open("a", encoding="utf-8") as file,
        ):
            task = bar.add_task(f"{name} …", total=epochs or None)
            for line in process.stdout or ():
                file.write(line)
                last = line.strip() or last
                if epoch is not None and (found := epoch.search(line)):
                    bar.update(task, completed=int(found[1]) + 1)
        status = process.wait()
    except BaseException:
        process.kill()
        raise
    finally:
        if process.stdout:
            process.stdout.close()
    if status:
        raise WeakLossError(f"{name} failed ({last}): see {output}")
