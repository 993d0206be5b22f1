"""The files that a host's trainer learns from: lessons of the tangent model, or the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from mace_weak.command.finetuning.structures import Structures
from mace_weak.replacing import replacing
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import Model
from mace_weak.tangent.labels import Labels, Predicted, without_atoms
from mace_weak.tangent.teaching import LessonPlan, lessons

LESSONS, VALIDATION, LABELS = "lessons.xyz", "validation.xyz", "labels.xyz"
N_VALIDATION = 10  # structures; the tangent model has no noise, so that few can choose the epoch


def write_lessons(
    folder: Path,
    structures: Structures,
    *,
    model: Model,
    tangent: Tangent,
    start: Predicted,
    labels: Labels,
    seed: int,
    progress: Callable[[int], None],
) -> None:
    """Write what the tangent model teaches, with the labels where there are some.

    Energies are at the foundation model's level, from which training starts: the atoms' share by
    least squares is left out. The tangent model's own shifts would leave a constant to learn.
    """
    level, _ = without_atoms(labels)
    offsets = start.constants + labels.counts @ (tangent.shifts - level)
    known = structures.energies - labels.counts @ level
    taught: list[Atoms] = []
    originals: list[Atoms] = []
    for lesson in lessons(model, tangent, LessonPlan(seed=seed)):
        number = lesson.number
        energy, forces = lesson.energy + offsets[number], lesson.forces.numpy()
        at_rest = not bool(lesson.displacement.any())
        if at_rest:
            own = structures.forces[number]
            energy = known[number] if np.isfinite(known[number]) else energy
            forces = forces if own is None else own
        atoms = _labelled(structures.frames[number], energy, forces)
        atoms.positions += lesson.displacement.numpy()
        taught.append(atoms)
        if at_rest:
            originals.append(atoms)
            progress(1)
    chosen = np.unique(np.linspace(0, len(originals) - 1, N_VALIDATION).astype(int))
    _write(folder / VALIDATION, [originals[place] for place in chosen])
    _write(folder / LESSONS, taught)


def write_labels(
    folder: Path, structures: Structures, *, labels: Labels, missing_as_nan: bool
) -> bool:
    """Write the structures with an energy, and their labels; returns whether some have forces.

    Energies are at the foundation model's level, as those of the lessons. ``missing_as_nan`` is
    whether the host takes NaN for forces that only some structures lack.
    """
    some_forces = any(forces is not None for forces in structures.forces)
    level, _ = without_atoms(labels)
    labelled = []
    each = zip(
        structures.frames, structures.energies - labels.counts @ level, structures.forces,
        strict=True,
    )  # fmt: skip
    for atoms, energy, forces in each:
        if forces is None and some_forces and missing_as_nan:
            forces = np.full(atoms.positions.shape, np.nan)
        if np.isfinite(energy):
            labelled.append(_labelled(atoms, energy, forces))
    _write(folder / LABELS, labelled)
    return some_forces


def _labelled(atoms: Atoms, energy: float, forces: Any) -> Atoms:
    copy = atoms.copy()
    copy.info["REF_energy"] = float(energy)
    if forces is not None:
        copy.arrays["REF_forces"] = np.asarray(forces)
    return copy


def _write(path: Path, frames: Sequence[Atoms]) -> None:
    with replacing(path) as partial:
        write(partial, frames, format="extxyz")
