"""Models of either host: loaded from files, their predictions, and trainings by the host.

Loading a model file executes code stored in it.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mace_weak.errors import WeakLossError
from mace_weak.structures import Prediction, bare
from mace_weak.tangent.error_bars import NamedModel
from mace_weak.tangent.labels import Predicted
from mace_weak.tangent.teaching import Schedule, Task
from mace_weak.versions import MACE, NEQUIP, NEQUIP_NET, installed, supported

NEQUIP_SUFFIXES = (".ckpt", ".nequip.zip", ".nequip.pth", ".nequip.pt2")


class Model(Protocol):
    """A model file, loaded by its host."""

    @property
    def calculator(self) -> Calculator:
        """The host's calculator for ASE."""

    @property
    def elements(self) -> Sequence[str]:
        """Symbols of the elements that the model knows."""

    @property
    def cutoff(self) -> float:
        """Radius of the neighbourhood of an atom, Å."""

    @property
    def dtype(self) -> str:
        """Precision of the model: ``float32`` or ``float64``."""

    @property
    def rounds_totals(self) -> bool:
        """Whether it gives total energies in single precision."""

    @property
    def atomic_energies(self) -> Mapping[str, float] | None:
        """Energies of the atoms in the model, eV; None if the file does not give them."""

    @property
    def training_flags(self) -> Sequence[str]:
        """What MACE's trainer needs beside the file to fine-tune the model."""

    @property
    def reads(self) -> Collection[str]:
        """Charge, spin and the like that its energy depends on, by the names of ``STATE``."""

    @property
    def stress_is_whole(self) -> bool:
        """Whether the stress that it gives is the derivative of all of its energy."""

    def predictions(self, frames: Iterable[Atoms]) -> Iterator[Prediction]:
        """Energies, forces and stresses, in the order of the structures and in batches of them."""


def host_of(path: str) -> str:
    """The distribution that reads a model file, by the file's name."""
    by_nequip = path.startswith(NEQUIP_NET) or path.endswith(NEQUIP_SUFFIXES)
    return NEQUIP if by_nequip else MACE


def require_host(path: str) -> None:
    """Check that the host of a model file is installed.

    Raises:
        WeakLossError: if it is not.
    """
    host = host_of(path)
    if installed(host) is None:
        raise WeakLossError(
            f"'{path}' is a model of {host}, which is not installed here: use the environment of "
            f"{host}, or pip install '{host}{supported(host).specifier}'"
        )


def load_model(path: str, *, device: str = "cpu", dtype: str = "") -> Model:
    """The model in a file, or a foundation model by its name.

    The name is ``small``, ``medium`` … of MACE, ``nequip.net:group/model:version`` of nequip.

    ``dtype`` is MACE's ``float32`` or ``float64``; nequip's models keep their precision.

    Raises:
        WeakLossError: if the host is not installed, or it cannot read the file, or a ``dtype`` is
            given for a model of nequip.
    """
    require_host(path)
    with reading(path):
        if host_of(path) == NEQUIP:
            from mace_weak.nequip.saved import load_saved

            if dtype:
                raise WeakLossError(
                    "a model of nequip keeps the precision of its training: leave out --dtype"
                )
            return load_saved(path, device=device)
        from mace_weak.mace.saved import load_saved as load_saved_mace

        return load_saved_mace(path, device=device, dtype=dtype)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """While a model file is read: silence its host, and name the file in errors.

    Raises:
        WeakLossError: if it cannot be read.
    """
    try:
        with _quiet():
            yield
    except WeakLossError:
        raise
    except Exception as error:  # unpickling fails in many ways
        raise WeakLossError(
            f"'{path}' cannot be read as a model of {host_of(path)} "
            f"({type(error).__name__}: {error})"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hosts' messages out of the output, which may be JSON."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def predict(model: Model, frames: Iterable[Atoms]) -> Iterator[Prediction]:
    """Predictions for structures in their order, computed in batches.

    Raises:
        WeakLossError: if a structure has an element that the model does not know, or the model
            gives no forces.
    """
    return model.predictions(bare(_known(model, atoms)) for atoms in frames)


def _known(model: Model, atoms: Atoms) -> Atoms:
    require_elements(model, atoms)
    return atoms


def require_elements(model: Model, atoms: Atoms) -> None:
    """Check that the model knows all elements of a structure.

    Raises:
        WeakLossError: if it does not.
    """
    missing = set(atoms.get_chemical_symbols()) - set(model.elements)
    if missing:
        raise WeakLossError(
            f"{atoms.get_chemical_formula()} contains {', '.join(sorted(missing))}, and the model "
            f"knows only {', '.join(model.elements)}: use a model trained on these elements"
        )


class Parametric(NamedModel, Protocol):
    """A host's model as a function of its parameters, and its predictions at the start."""

    @property
    def counts(self) -> np.ndarray:
        """Numbers of atoms of each of the model's elements (n_structures, n_elements)."""

    def predicted(self, progress: Callable[[int], None]) -> Predicted:
        """Energies and forces of all structures; ``progress`` is called with how many are done."""

    def on(self, dataset: Any) -> Parametric:
        """The same model on other structures, the host's graphs; both have the same parameters."""


class Host(Protocol):
    """The module ``finetuning`` of a host; ``saved`` are its loaded models."""

    COMMAND: str  # its trainer
    EPOCH: re.Pattern[str]  # with which the trainer says that an epoch ends
    PRODUCT: str  # the file that the trainer writes
    MISSING_AS_NAN: bool  # whether labels that some structures lack are given as NaN
    SUFFIXES: Sequence[str]  # of its model files; the first is added where there is none

    def save_foundation(self, path: str, folder: Path, *, head: str | None, device: str) -> Path:
        """The file that training starts from; in ``folder`` if it has to be written."""

    def parametric_model(self, saved: Any, frames: Sequence[Atoms]) -> Parametric:
        """The model as a function of its parameters, on some structures."""

    def graphs_of(self, saved: Any, frames: Sequence[Atoms]) -> Any:
        """Structures as a model of ``parametric_model`` takes them."""

    def distilling(self, n_lessons: int, steps: int | None) -> Schedule:
        """How long the trainer learns from so many structures of the tangent model.

        So many ``steps``, by default as many as suit the host.
        """

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
    if not host.SUFFIXES and host_of(out.name) == NEQUIP:
        raise WeakLossError(
            f"'{out}' ends as a model of {NEQUIP}, and this one is of {MACE}: end it in .model"
        )
    if not host.SUFFIXES or out.name.endswith(tuple(host.SUFFIXES)):
        return out
    if out.suffix in ("", ".model"):
        return out.with_suffix(host.SUFFIXES[0])
    raise WeakLossError(
        f"'{out}' does not end in {' or '.join(host.SUFFIXES)}, by which its host recognises a "
        "model file: name another --out"
    )


def run_trainer(
    name: str,
    arguments: Sequence[str],
    output: Path,
    *,
    epochs: int,
    epoch: re.Pattern[str],
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
            task = bar.add_task(f"{name} …", total=epochs)
            for line in process.stdout or ():
                file.write(line)
                last = line.strip() or last
                if found := epoch.search(line):
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
