"""Energies of the atoms (E0s): fitted, and the shift from a foundation model's level of theory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mace_weak.agreement import fit_atoms


@dataclass(frozen=True)
class CompositionFit:
    """Energies of the elements (eV) that explain energies best, and what they leave per atom.

    ``unique`` is false where other energies fit as well, as with a single formula: these are the
    smallest then. ``residuals`` (n_structures,) in eV/atom.
    """

    energies: dict[str, float]
    residuals: np.ndarray
    unique: bool

    @property
    def rmse(self) -> float:
        """In meV/atom."""
        return float(1e3 * np.sqrt(np.mean(self.residuals**2)))


def elements_of(frames: Sequence[Atoms]) -> list[str]:
    """Symbols of all elements in the structures."""
    return sorted({symbol for atoms in frames for symbol in atoms.symbols})


def over_composition(frames: Sequence[Atoms], energies: Sequence[float]) -> np.ndarray:
    """What the composition does not explain of ``energies`` (eV), eV/atom (n_structures,)."""
    return fit_composition(frames, np.array(energies), elements_of(frames)).residuals


def fit_composition(
    frames: Sequence[Atoms], energies: np.ndarray, elements: Sequence[str]
) -> CompositionFit:
    """Least squares of ``energies`` (n_structures,) in eV over the numbers of atoms."""
    fit = fit_atoms(counts_of(frames, elements), energies)
    fitted = dict(zip(elements, fit.energies.tolist(), strict=True))
    return CompositionFit(fitted, fit.residuals, unique=fit.unique)


def counts_of(frames: Sequence[Atoms], elements: Sequence[str]) -> np.ndarray:
    """Numbers of atoms of each element (n_structures, n_elements)."""
    return np.array(
        [[atoms.symbols.count(symbol) for symbol in elements] for atoms in frames], dtype=float
    )
