"""How the energies of a model go with labelled ones, and whether it knows their surface."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FEWEST = 10  # energies that tell of a surface
VARIED = 1e-4  # eV/atom, between structures of one composition
# measured in recipes/benchmark, where a model leaves more than the atoms: cold structures of a
# surface that it knows have correlations of 0.63 and 0.70 and a scale of 0.9, a wrong one 2.0
FOLLOWING = 0.5  # correlation of the energies
SCALE = 1.5  # of the model's surface, or its inverse


class Likeness(NamedTuple):
    """A model's energies beside the labels of ``structures``, without what the atoms explain.

    ``left_by_model`` and ``left_by_atoms`` are root mean squares, in eV/atom, of what the model and
    energies of the atoms, and the latter alone, leave of the labels; ``spread`` is that of the
    model's own energies. ``scale`` is their slope over the labels.
    """

    structures: int
    left_by_model: float
    left_by_atoms: float
    spread: float
    scale: float
    correlation: float

    @property
    def telling(self) -> bool:
        """Whether there are enough energies, that differ, to compare the two."""
        return self.structures >= FEWEST and self.spread >= VARIED

    @property
    def another_surface(self) -> bool:
        """Whether the model explains no more of the labels than energies of the atoms do.

        And not for the mere smallness of what there is to explain: where its energies follow the
        labels and are of their scale, its errors are scatter, which tells nothing of its surface.
        """
        if not self.telling or self.left_by_model < self.left_by_atoms:
            return False
        return not (self.correlation > FOLLOWING and 1 / SCALE < self.scale < SCALE)

    def __str__(self) -> str:
        return (
            f"{1e3 * self.left_by_model:.4g} meV/atom of the energies, energies of the atoms alone "
            f"{1e3 * self.left_by_atoms:.4g}"
        )


def liken(labels: np.ndarray, model: np.ndarray) -> Likeness:
    """The likeness of energies (n_structures,) in eV/atom, without what the atoms explain."""
    scale, correlation = proportion(model, labels)
    return Likeness(
        structures=len(labels),
        left_by_model=_root_mean_square(labels - model),
        left_by_atoms=_root_mean_square(labels),
        spread=_root_mean_square(model),
        scale=scale,
        correlation=correlation,
    )


def proportion(values: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Slope of values over predicted ones, through zero, and their correlation; NaN of nothing."""
    product, square = float(np.sum(values * predicted)), float(np.sum(predicted**2))
    if not square > 0 or not np.any(values):
        return np.nan, np.nan
    return product / square, product / float(np.sqrt(np.sum(values**2) * square))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
