"""What the composition of structures explains of their energies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


class AtomFit(NamedTuple):
    """Energies of the kinds of atoms (n_kinds,) in eV that explain energies best.

    ``residuals`` (n_structures,) in eV/atom are what they leave. ``unique`` is false where other
    energies fit as well, as with a single composition: these are the smallest then.
    """

    energies: np.ndarray
    residuals: np.ndarray
    unique: bool

    @property
    def rmse(self) -> float:
        """Of the residuals, meV/atom."""
        return float(1e3 * np.sqrt(np.mean(self.residuals**2)))

    def by_element(self, elements: Sequence[str]) -> dict[str, float]:
        """The energies (eV) by element, where ``elements`` are the kinds of atoms."""
        return dict(zip(elements, self.energies.tolist(), strict=True))


def fit_atoms(counts: np.ndarray, energies: np.ndarray) -> AtomFit:
    """Least squares of ``energies`` (n_structures,) in eV over numbers of atoms.

    ``counts`` (n_structures, n_kinds) are those of each kind of atom.
    """
    solution, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    residuals = (energies - counts @ solution) / counts.sum(axis=1)
    return AtomFit(solution, residuals, unique=int(rank) == counts.shape[1])


def fit_elements(frames: Sequence[Atoms], energies: Sequence[float]) -> AtomFit:
    """``fit_atoms`` over the elements in the structures, in the order of ``elements_of``."""
    return fit_atoms(counts_of(frames, elements_of(frames)), np.array(energies))


def elements_of(frames: Sequence[Atoms]) -> list[str]:
    """Symbols of all elements in the structures, sorted."""
    return sorted({symbol for atoms in frames for symbol in atoms.symbols})


def counts_of(frames: Sequence[Atoms], elements: Sequence[str]) -> np.ndarray:
    """Numbers of atoms of each element (n_structures, n_elements)."""
    return np.array(
        [[atoms.symbols.count(symbol) for symbol in elements] for atoms in frames], dtype=float
    )
