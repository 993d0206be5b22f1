"""The files of a fine-tuning: labels that it reads, its work folder, data for the trainer."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from ase import Atoms
from ase.io import write
from torch import Tensor

from mace_weak.command.output import require_new, timed
from mace_weak.errors import WeakLossError
from mace_weak.keys import ENERGY_KEY, FORCES_KEY
from mace_weak.structures import Keys, bare, evenly, is_alone, is_isolated_atom, read_labelled
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import Model
from mace_weak.tangent.labels import Labels, Predicted, without_atoms
from mace_weak.tangent.storage import replacing
from mace_weak.tangent.teaching import LessonPlan, lessons

MARK = "finetune.json"
LOCK = "lock"
SECONDS = "seconds.json"
LESSONS, VALIDATION, LABELS = "lessons.xyz", "validation.xyz", "labels.xyz"
SAVED = (".model", ".pt", ".ckpt")  # by torch, as zip files
N_VALIDATION = 10  # structures; the tangent model has no noise, so that few can choose the epoch


@dataclass(frozen=True)
class Structures:
    """Structures of a file with their labels.

    ``energies`` (n_structures,) in eV, NaN where there is none; ``forces`` (n_atoms, 3) in eV/Å,
    or None. ``isolated`` counts the isolated atoms that were left out.
    """

    frames: list[Atoms]
    energies: np.ndarray
    forces: list[np.ndarray | None]
    isolated: int

    @property
    def n_labelled(self) -> int:
        """How many have an energy or forces."""
        pairs = zip(np.isfinite(self.energies), self.forces, strict=True)
        return sum(bool(known) or forces is not None for known, forces in pairs)


def read_training(path: Path, keys: Keys) -> Structures:
    """The structures of a file and their labels; isolated atoms are left out, marked or not.

    Raises:
        WeakLossError: if a position or a label is not a finite number, or no energy is there.
    """
    frames, energies, forces, alone = [], [], [], 0
    for place, atoms, labels in read_labelled(path, keys):
        if is_isolated_atom(atoms) or is_alone(atoms):
            alone += 1
            continue
        for name in ("energy", "forces"):
            _require_finite(labels.get(name), place, name, keys)
        frames.append(bare(atoms))
        energies.append(float(labels.get("energy", np.nan)))
        forces.append(labels.get("forces"))
    if not np.any(np.isfinite(energies)):
        raise WeakLossError(
            f"no structure of '{path}' has an energy under the key '{keys.energy}': name the key "
            "by --energy-key"
        )
    return Structures(frames, np.array(energies), forces, alone)


def _require_finite(value: np.ndarray | None, place: str, name: str, keys: Keys) -> None:
    if value is not None and not np.all(np.isfinite(value)):
        raise WeakLossError(
            f"{place}: its {name} (key '{getattr(keys, name)}') is NaN or infinite: correct or "
            "remove it"
        )


@dataclass
class Work:
    """The folder beside a model file with what was done so far, and the seconds of each part.

    ``lock`` is a file descriptor: no other process works in the folder as long as this one, or one
    that inherits it, has it open.
    """

    folder: Path
    lock: int
    seconds: dict[str, float] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def mark(self, content: Mapping[str, object]) -> None:
        """Record the call whose work the folder holds from here on."""
        _write_json(self.folder / MARK, content)

    def clear(self) -> None:
        """Remove what was done so far."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        self.seconds = {}

    def drop_broken(self) -> None:
        """Remove models and checkpoints that a killed trainer left half written."""
        for path in self.folder.rglob("*"):
            if path.suffix in SAVED and not _is_whole(path):
                path.unlink()

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of a part to that of earlier calls."""
        try:
            with timed(self.seconds, part):
                yield
        finally:
            _write_json(self.folder / SECONDS, self.seconds)


def _is_whole(path: Path) -> bool:
    try:
        with ZipFile(path) as file:
            return file.testzip() is None
    except BadZipFile:
        return False


def open_work(out: Path, *, inputs: Sequence[Path], overwrite: bool) -> Work:
    """The work folder of a model file that may be written, created if needed.

    Raises:
        WeakLossError: if the file exists, is an input, or cannot be written, if another process
            works on it, or the folder was not made by this command.
    """
    require_new(out, inputs=inputs, overwrite=overwrite)
    if out.is_dir():
        raise WeakLossError(f"'{out}' is a folder: name a file by --out")
    folder = out.with_name(f"{out.name}.work")
    if folder.exists() and not (folder / LOCK).is_file():
        raise WeakLossError(
            f"'{folder}' was not made by mace-weak finetune: move it, or name another --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise WeakLossError(
            f"'{folder}' cannot be written ({error}): name another --out"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise WeakLossError(
            f"another process works in '{folder}': wait for it, end it, or name another --out"
        ) from error
    except OSError:  # a file system without locks, as some of clusters
        pass
    work = Work(folder, lock)
    if overwrite or not work.has(MARK):
        work.clear()
    known = folder / SECONDS
    if known.is_file():
        work.seconds = json.loads(known.read_text())
    return work


def require_same(work: Work, content: Mapping[str, object]) -> None:
    """Check that the folder, if it holds work, holds that of the same call.

    Raises:
        WeakLossError: if it does not.
    """
    path = work.folder / MARK
    if not path.is_file():
        return
    asked, before = json.loads(json.dumps(content)), json.loads(path.read_text())
    changed = [name for name in asked if asked[name] != before.get(name)]
    if changed:
        raise WeakLossError(
            f"'{work.folder}' holds unfinished work with another {', another '.join(changed)}: add "
            "--overwrite to start anew, or name another --out"
        )


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(content))


def write_lessons(
    folder: Path,
    structures: Structures,
    *,
    model: Model,
    on: Callable[[Sequence[Atoms]], Model],
    tangent: Tangent,
    start: Predicted,
    labels: Labels,
    seed: int,
    progress: Callable[[int], None],
) -> None:
    """Write the labels that the tangent model gives, with the file's labels where there are some.

    ``on`` gives the ``model`` on other structures.

    Energies are at the foundation model's level, from which training starts: the energies of the
    atoms by least squares are left out. The tangent model's shifts would leave a constant to learn.
    """
    level, _ = without_atoms(labels)
    offsets = start.constants + labels.counts @ (tangent.shifts - level)
    known = structures.energies - labels.counts @ level
    taught: list[Atoms] = []
    originals: list[Atoms] = []

    def moved(number: int, moves: Tensor) -> Model:
        return on([_moved(structures.frames[number], move) for move in moves])

    for lesson in lessons(model, tangent, LessonPlan(seed=seed), moved):
        number = lesson.number
        energy, forces = lesson.energy + offsets[number], lesson.forces.numpy()
        at_rest = not bool(lesson.displacement.any())
        if at_rest:
            labelled = structures.forces[number]
            energy = known[number] if np.isfinite(known[number]) else energy
            forces = forces if labelled is None else labelled
        atoms = _labelled(_moved(structures.frames[number], lesson.displacement), energy, forces)
        taught.append(atoms)
        if at_rest:
            originals.append(atoms)
            progress(1)
    _write(folder / VALIDATION, evenly(originals, N_VALIDATION))
    _write(folder / LESSONS, taught)


def write_labels(
    folder: Path, structures: Structures, *, labels: Labels, missing_as_nan: bool
) -> bool:
    """Write the structures with labels; returns whether some have forces.

    Energies are at the foundation model's level, as those of the lessons. ``missing_as_nan`` is
    whether the host takes NaN for labels that only some structures lack.
    """
    some_forces = any(forces is not None for forces in structures.forces)
    level, _ = without_atoms(labels)
    labelled = []
    each = zip(
        structures.frames, structures.energies - labels.counts @ level, structures.forces,
        strict=True,
    )  # fmt: skip
    for atoms, energy, forces in each:
        known = np.isfinite(energy)
        if not known and forces is None:
            continue
        if forces is None and some_forces and missing_as_nan:
            forces = np.full(atoms.positions.shape, np.nan)
        labelled.append(_labelled(atoms, energy if known or missing_as_nan else None, forces))
    _write(folder / LABELS, labelled)
    return some_forces


def _moved(atoms: Atoms, displacement: Tensor) -> Atoms:
    copy = atoms.copy()
    copy.positions += displacement.numpy()
    return copy


def _labelled(atoms: Atoms, energy: float | None, forces: Any) -> Atoms:
    copy = atoms.copy()
    if energy is not None:
        copy.info[ENERGY_KEY] = float(energy)
    if forces is not None:
        copy.arrays[FORCES_KEY] = np.asarray(forces)
    return copy


def _write(path: Path, frames: Sequence[Atoms]) -> None:
    with replacing(path) as partial:
        write(partial, frames, format="extxyz")
