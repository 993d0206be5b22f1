"""What a fine-tuning in closed form needs of the host of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from ase import Atoms

from mace_weak.command.models import host_of, reading, require_host
from mace_weak.errors import WeakLossError
from mace_weak.tangent.gradients import Model
from mace_weak.tangent.labels import Predicted
from mace_weak.tangent.teaching import Schedule, Task
from mace_weak.versions import NEQUIP


class Parametric(Model, Protocol):
    """A host's model as a function of its parameters, and what it gives at the start."""

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
    MISSING_AS_NAN: bool  # whether NaN stands for forces that only some structures have
    SUFFIXES: Sequence[str]  # of its model files; the first is added where there is none

    def save_foundation(self, path: str, folder: Path, *, head: str | None, device: str) -> Path:
        """The file that training starts from, in ``folder`` where it has to be made."""

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


def host_for(foundation: str) -> Host:
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
        f"'{out}' does not end in {' or '.join(host.SUFFIXES)}, by which its host knows a model "
        "file: name another --out"
    )
