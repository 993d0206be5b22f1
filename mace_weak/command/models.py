"""Models of either host: loaded from files, and their predictions.

Loading a model file executes code stored in it.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Protocol

from ase import Atoms
from ase.calculators.calculator import Calculator

from mace_weak.errors import WeakLossError
from mace_weak.structures import Prediction, bare
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
    def atomic_energies(self) -> Mapping[str, float] | None:
        """Energies of the atoms in the model, eV; None if the file does not give them."""

    @property
    def training_flags(self) -> Sequence[str]:
        """What MACE's trainer needs beside the file to fine-tune the model."""

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
        WeakLossError: if the host is not installed, or it cannot read the file.
    """
    require_host(path)
    with reading(path):
        if host_of(path) == NEQUIP:
            from mace_weak.nequip.saved import load_saved

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
