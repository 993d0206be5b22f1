"""A pool of structures in the space of a model's descriptors, read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mace_weak.command.frames import isolated, read_frames
from mace_weak.command.models import Model, require_elements
from mace_weak.command.progress import progress
from mace_weak.command.selecting.spaces import Space, duplicates, nearest_distances
from mace_weak.errors import WeakLossError

BATCH_STRUCTURES, BATCH_ATOMS = 64, 2000  # of which the descriptors are computed at once

Batch = list[tuple[int, Atoms]]  # numbers in the file, from 0, and structures


@dataclass(frozen=True)
class Pool:
    """Structures to choose from.

    ``frames`` (n,) are their numbers in the file, ``rows`` (n, p) those of the design, ``labelled``
    (m, p) those of structures that have labels, ``repeated`` (n,) says whose descriptors another
    has, labelled or earlier. ``n_features`` had the descriptors.
    """

    frames: np.ndarray
    rows: np.ndarray
    labelled: np.ndarray
    repeated: np.ndarray
    space: Space
    n_features: int

    @property
    def information(self) -> np.ndarray:
        """What is known before the choice (p, p)."""
        return self.space.prior + self.labelled.T @ self.labelled

    def coverage(self, chosen: np.ndarray) -> float:
        """Largest distance of a structure to the nearest one that is chosen or labelled.

        Where the root of the pool's mean squared distance from its centre is 1.
        """
        centres = self.space.points(np.concatenate([self.rows[chosen], self.labelled]))
        return float(nearest_distances(self.space.points(self.rows), centres).max())


def described(model: Model, path: Path, *, labelled: Path | None) -> Pool:
    """The pool in a file, with structures of another file that have labels.

    Raises:
        WeakLossError: if a file cannot be read, or the model cannot describe a structure.
    """
    known = descriptors(model, labelled)[1] if labelled else None
    frames, features = descriptors(model, path)
    space = Space.of(features)
    rows = space.rows(features)
    others = space.rows(features[:0] if known is None else known)
    points = space.points(np.concatenate([others, rows]))
    return Pool(frames, rows, others, duplicates(points)[len(others) :], space, features.shape[1])


def descriptors(model: Model, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n,) and descriptors (n, n_features) of the structures in a file.

    Isolated atoms are left out: a training set has them for another reason.

    Raises:
        WeakLossError: if an element is unknown to the model, or descriptors are not finite.
    """
    numbers: list[int] = []
    features: list[np.ndarray] = []
    for batch in batches(path):
        for number, atoms in batch:
            require_elements(model, atoms)
            numbers.append(number)
        features.append(model.descriptors([atoms for _, atoms in batch]).astype(np.float32))
        wrong = np.flatnonzero(~np.isfinite(features[-1]).all(axis=1))
        if len(wrong):
            raise WeakLossError(
                f"frame {batch[wrong[0]][0]} of '{path}' (counted from 0) has no finite "
                "descriptors: look at its positions, or remove it"
            )
    if not numbers:
        raise WeakLossError(f"'{path}' has nothing but isolated atoms: name a file of structures")
    return np.array(numbers), np.concatenate(features)


def batches(path: Path) -> Iterator[Batch]:
    """The structures of a file but the isolated atoms, as many at a time as the memory bears."""
    batch: Batch = []
    size = 0
    for number, atoms in enumerate(progress(read_frames(path), f"describing {path.name}")):
        if isolated(atoms):
            continue
        if batch and (len(batch) == BATCH_STRUCTURES or size + len(atoms) > BATCH_ATOMS):
            yield batch
            batch, size = [], 0
        batch.append((number, atoms))
        size += len(atoms)
    if batch:
        yield batch
