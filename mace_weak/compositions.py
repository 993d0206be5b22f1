"""What the composition of structures explains of their energies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class AtomFit(NamedTuple):
    """Energies of the kinds of atoms (n_kinds,) in eV, and what they leave.

    ``residuals`` (n_structures,) in eV/atom. ``unique`` is false where other energies fit as well,
    as with a single composition: these are the smallest then.
    """

    energies: np.ndarray
    residuals: np.ndarray
    unique: bool


def fit_atoms(counts: np.ndarray, energies: np.ndarray) -> AtomFit:
    """Least squares of ``energies`` (n_structures,) in eV over numbers of atoms.

    ``counts`` (n_structures, n_kinds) are those of each kind of atom.
    """
    solution, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    residuals = (energies - counts @ solution) / counts.sum(axis=1)
    return AtomFit(solution, residuals, unique=int(rank) == counts.shape[1])
