"""The slope of predicted against reference forces: below 1 a potential is too soft.

B. Deng et al., "Systematic softening in universal machine learning interatomic potentials", 2024,
arXiv:2405.07105.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Forces = Sequence[np.ndarray]


def force_slope(predicted: Forces, reference: Forces) -> float:
    """Slope of the line through zero that fits predicted against reference forces best.

    Both are one array (n_atoms, 3) per structure, eV/Å. NaN where there is nothing to fit: no
    structures, or reference forces that are all zero.
    """
    products, squares = _sums(predicted, reference)
    return float(products.sum() / squares.sum()) if squares.sum() > 0 else math.nan


def slope_spread(predicted: Forces, reference: Forces) -> float:
    """Standard error of ``force_slope`` from the scatter between structures.

    That of a ratio of two sums over structures, to first order what a bootstrap over structures
    gives; the forces within one structure are not independent, so they count together. Structures
    that follow each other in a trajectory are not independent either: it is too small for those.
    NaN with fewer than two structures.
    """
    products, squares = _sums(predicted, reference)
    count = len(products)
    if count < 2 or not squares.sum() > 0:
        return math.nan
    slope = products.sum() / squares.sum()
    scatter = ((products - slope * squares) ** 2).sum()
    return float(math.sqrt(scatter * count / (count - 1)) / squares.sum())


def _sums(predicted: Forces, reference: Forces) -> tuple[np.ndarray, np.ndarray]:
    """Σ p·r and Σ r·r of each structure: two arrays (n_structures,) in eV²/Å²."""
    pairs = list(zip(predicted, reference, strict=True))
    products = [float(np.vdot(own, target)) for own, target in pairs]
    squares = [float(np.vdot(target, target)) for _, target in pairs]
    return np.array(products), np.array(squares)
