"""The hosts' adapters for trainings, and their training commands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
from ase import Atoms

from mace_weak.command.models import host_of, reading, require_host
from mace_weak.errors import WeakLossError
from mace_weak.tangent.error_bars import NamedModel
from mace_weak.tangent.labels import Predicted
from mace_weak.tangent.teaching import Schedule, Task
from mace_weak.versions import NEQUIP


class Parametric(NamedModel, Protocol):
    """A host's model as a function of its parameters, and its predictions at the start."""

    @property
    def counts(self) -> np.ndarray:
        """Numbers of atoms of each of the model's elements (n_structures, n_elements)."""

    def predicted(self, progress: Callable[[int], None]) -> Predicted:
        """Energies and forces of all structures; ``progress`` is called with how many are done."""


class Host(Protocol):
    """The module ``finetuning`` of a host; ``saved`` are its loaded models."""

    COMMAND: str  # its trainer
    EPOCH: re.Pattern[str]  # with which the trainer says that an epoch ends
    PRODUCT: str  # the file that the trainer writes
    MISSING_AS_NAN: bool  # whether missing forces are given as NaN
    SUFFIXES: Sequence[str]  # of its model files; the first is added where there is none

    def save_foundation(self, path: str, folder: Path, *, head: str | None, device: str) -> Path:
        """The file that training starts from; in ``folder`` if it has to be written."""

    def parametric_model(self, saved: Any, frames: Sequence[Atoms]) -> Parametric:
        """The model as a function of its parameters, on some structures."""

    def distilling(self, n_lessons: int) -> Schedule:
        """How long the trainer learns from so many structures of the tangent model."""

    def distilling_arguments(self, saved: Any, task: Task) -> list[str]:
        """Arguments of the trainer for energies and forces of the tangent model."""

    def arguments_on_labels(self, saved: Any, task: Task, *, anchored: bool) -> list[str]:
        """Arguments of the trainer for the labels themselves, with the anchored Taylor loss or not.

        The last model is the result.
        """

    def save_product(self, folder: Path, out: Path, shifts: Mapping[str, float]) -> None:
        """Write the trained model with the atoms' energies moved by ``shifts`` (eV)."""


def finetuning_host(foundation: str) -> Host:
    """The host of a model file.

    Raises:
        WeakLossError: if it is not installed.
    """
    require_host(foundation)
    with reading(foundation):
        if host_of(foundation) == NEQUIP:
            from mace_weak.nequip import finetuning as of_nequip

            return cast(Host, of_nequip)
        from mace_weak.mace import finetuning as of_mace

        return cast(Host, of_mace)


def named_by_host(out: Path, host: Host) -> Path:
    """The model file to write, under a name that the host reads.

    Raises:
        WeakLossError: if the name ends as another kind of file.
    """
    if not host.SUFFIXES or out.name.endswith(tuple(host.SUFFIXES)):
        return out
    if out.suffix in ("", ".model"):
        return out.with_suffix(host.SUFFIXES[0])
    raise WeakLossError(
        f"'{out}' does not end in {' or '.join(host.SUFFIXES)}, by which its host recognises a "
        "model file: name another --out"
    )


def one_structure_host(model: str) -> ModuleType:
    """The module ``one_structure`` of a model's host: trainings on one structure."""
    if host_of(model) == NEQUIP:
        from mace_weak.nequip import one_structure as of_nequip

        return of_nequip
    from mace_weak.mace import one_structure as of_mace

    return of_mace


def run_trainer(
    name: str,
    arguments: Sequence[str],
    output: Path,
    *,
    epochs: int = 0,
    epoch: re.Pattern[str] | None = None,
    kept_open: Sequence[int] = (),
) -> None:
    """Run a command of this environment and append its output to the file ``output``.

    ``epoch`` finds the number of an epoch, of ``epochs``, in a line, for a progress bar. The
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
