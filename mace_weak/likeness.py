"""How the energies of a model go with labelled ones, and whether it knows their surface."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

FEWEST = 10  # energies that tell of a surface
VARIED = 1e-4  # eV/atom, between structures of one composition
# measured in recipes/benchmark, where a model leaves all that there is: cold structures of a
# surface that it knows have correlations of 0.63 and 0.70 and a scale of 0.9, a wrong one 2.0
FOLLOWING = 0.5  # correlation of the energies
SCALE = 1.5  # of the model's surface, or its inverse


class Likeness(NamedTuple):
    """A model's energies beside labels, by what structures of one composition differ in.

    ``differences`` is the number of structures beyond the first of each composition. ``left`` is
    the root mean square, in eV/atom, of what the model does not explain, ``labels`` that of the
    labels and ``model`` that of the model's energies. ``scale`` is the slope of the latter over the
    labels.
    """

    differences: int
    left: float
    labels: float
    model: float
    scale: float
    correlation: float

    @property
    def another_surface(self) -> bool:
        """Whether the model explains nothing of the labels, where there are enough that differ.

        And not for the mere smallness of what there is to explain: where its energies follow the
        labels and are of their scale, its errors are scatter, which tells nothing of its surface.
        """
        if self.differences < FEWEST or self.model < VARIED or self.left < self.labels:
            return False
        return not (self.correlation > FOLLOWING and 1 / SCALE < self.scale < SCALE)

    def __str__(self) -> str:
        return (
            f"{1e3 * self.left:.4g} meV/atom of the {1e3 * self.labels:.4g} by which structures of "
            f"one composition differ (scale {self.scale:.2g}, correlation {self.correlation:.2g})"
        )


def liken(compositions: Sequence[Hashable], labels: np.ndarray, model: np.ndarray) -> Likeness:
    """The likeness of energies (n_structures,) in eV/atom of structures of these compositions."""
    numbers = {composition: number for number, composition in enumerate(set(compositions))}
    groups = np.array([numbers[composition] for composition in compositions], dtype=int)
    own, predicted = (_within(groups, energies) for energies in (labels, model))
    scale, correlation = proportion(predicted, own)
    return Likeness(
        differences=len(groups) - len(numbers),
        left=_root_mean_square(own - predicted),
        labels=_root_mean_square(own),
        model=_root_mean_square(predicted),
        scale=scale,
        correlation=correlation,
    )


def _within(groups: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """The energies without the mean of their group."""
    means = np.bincount(groups, energies) / np.maximum(np.bincount(groups), 1)
    return energies - means[groups]


def proportion(values: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Slope of values over predicted ones, through zero, and their correlation; NaN of nothing."""
    product, square = float(np.sum(values * predicted)), float(np.sum(predicted**2))
    if not square > 0 or not np.any(values):
        return np.nan, np.nan
    return product / square, product / float(np.sqrt(np.sum(values**2) * square))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
