"""What is known of the structures: labels relative to the foundation model, and their atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import null_space

from mace_weak.compositions import fit_atoms
from mace_weak.errors import WeakLossError

MOST_LABELS = 4000
ROUNDING = 1e-6  # of unit vectors


@dataclass(frozen=True)
class Predicted:
    """What the foundation model gives for the structures of a data set.

    ``energies`` (n_structures,) in eV, of which ``constants`` do not depend on positions and are
    no part of the surfaces; ``forces`` (n_atoms, 3) in eV/Å of each.
    """

    energies: np.ndarray
    constants: np.ndarray
    forces: list[np.ndarray]


@dataclass(frozen=True)
class Labels:
    """What is known of each structure, relative to the foundation model.

    ``counts`` (n_structures, n_kinds) are the numbers of each kind of atom; ``energies``
    (n_structures,) in eV are E_ref − E(θ₀), NaN where there is none; ``forces`` (n_atoms, 3) in
    eV/Å are F_ref − F(θ₀), or None.
    """

    counts: np.ndarray
    energies: np.ndarray
    forces: Sequence[np.ndarray | None]

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def count(self) -> int:
        """Energies and components of forces."""
        forces = sum(one.size for one in self.forces if one is not None)
        return int(np.sum(np.isfinite(self.energies))) + forces

    @property
    def undetermined_atoms(self) -> np.ndarray:
        """Kinds of atoms (n_kinds,) in the structures of which the energies fix only sums.

        The energies of all kinds may change along the null space of the compositions.
        """
        counts = np.unique(self.counts[np.isfinite(self.energies)], axis=0).astype(float)
        free = np.any(np.abs(null_space(counts)) > ROUNDING, axis=1)
        return free & counts.any(axis=0)

    @classmethod
    def beyond(
        cls,
        start: Predicted,
        counts: np.ndarray,
        energies: np.ndarray,
        forces: Sequence[np.ndarray | None],
    ) -> Labels:
        """Reference ``energies`` and ``forces``, relative to what the foundation model gives."""
        return cls(
            counts,
            energies - start.energies,
            [
                None if one is None else one - there
                for one, there in zip(forces, start.forces, strict=True)
            ],
        )


def without_atoms(labels: Labels) -> tuple[np.ndarray, Labels]:
    """Energies of the atoms (n_kinds,) in eV by least squares, and the labels without them."""
    known = np.isfinite(labels.energies)
    atoms = fit_atoms(labels.counts[known].astype(float), labels.energies[known]).energies
    return atoms, replace(labels, energies=labels.energies - labels.counts @ atoms)


def require_solvable(labels: Labels) -> None:
    """Check the number of labels.

    Raises:
        WeakLossError: if there are none beyond the energies of the atoms, or too many.
    """
    if labels.count > MOST_LABELS:
        raise WeakLossError(
            f"{labels.count} labels (energies and components of forces) are more than the "
            f"{MOST_LABELS} that are solved in closed form: with so many, train by "
            "mace_run_train --loss=weak_taylor, or take fewer structures"
        )
    known = np.isfinite(labels.energies)
    rank = np.linalg.matrix_rank(labels.counts[known]) if known.any() else 0
    if labels.count - rank < 2:
        raise WeakLossError(
            f"{int(known.sum())} energies of {rank} independent compositions leave nothing to "
            "learn beyond the energies of the atoms: add structures of the same composition"
        )
