"""What the composition of structures explains of their energies, and agreement beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

FEWEST = 10  # energies that say something about a surface
VARIED = 1e-4  # eV/atom, between structures of one composition
# Measured in recipes/benchmark. Good models leave up to 0.5 of the energies, a wrong one all.
KNOWN = 0.7
# Of models that leave all, one that knows the surface, of cold structures, follows them by 0.63 to
# 0.70 at a scale of 0.9; a wrong one has a scale of 2.0.
FOLLOWING = 0.5  # correlation of the energies
SCALE = 1.5  # of the model's surface, or its inverse


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


class EnergyAgreement(NamedTuple):
    """A model's energies beside labels, by what structures of one composition differ in.

    ``differences`` is the number of structures beyond the first of each composition; where these
    are too few, it is what energies of the atoms leave that is compared. ``left`` is the root mean
    square, in eV/atom, of what the model does not explain of it, ``labels`` that of the labels and
    ``model`` that of the model's energies. ``scale`` is the slope of the latter over the labels.
    """

    differences: int
    left: float
    labels: float
    model: float
    scale: float
    correlation: float

    @property
    def telling(self) -> bool:
        """Whether there are enough structures of one composition."""
        return self.differences >= FEWEST

    @property
    def known(self) -> bool:
        """Whether the model knows the surface of the labels, where these differ at all.

        What the atoms' energies explain to the last digit differs by rounding alone.
        """
        return self.labels > VARIED and self.left < KNOWN * self.labels

    @property
    def another_surface(self) -> bool:
        """Whether the model explains nothing of the labels, where there are enough that differ.

        And not for the mere smallness of what there is to explain: where its energies follow the
        labels and are of their scale, its errors are scatter, which says nothing about its surface.
        """
        if not self.telling or self.model < VARIED or self.left < self.labels:
            return False
        return not (self.follows and 1 / SCALE < self.scale < SCALE)

    @property
    def follows(self) -> bool:
        """Whether the model's energies rise and fall with the labels, at whatever scale."""
        return self.correlation > FOLLOWING

    @property
    def another_scale(self) -> bool:
        """Whether the model's surface is another one by its scale, as that of a stiffer potential.

        A training without an anchor rescales it. Where the energies do not follow the labels
        either, little is known: a foundation model of large errors looks alike.
        """
        return self.another_surface and self.follows

    def __str__(self) -> str:
        what = (
            "by which structures of one composition differ"
            if self.telling
            else "that energies of the atoms leave"
        )
        return (
            f"{1e3 * self.left:.4g} meV/atom of the {1e3 * self.labels:.4g} {what} "
            f"(scale {self.scale:.2g}, correlation {self.correlation:.2g})"
        )


def energy_agreement(counts: np.ndarray, labels: np.ndarray, model: np.ndarray) -> EnergyAgreement:
    """The agreement of the energies (n_structures,) in eV of a model to labelled ones.

    ``counts`` (n_structures, n_kinds) are the numbers of each kind of atom.
    """
    if not len(labels):
        return EnergyAgreement(0, 0.0, 0.0, 0.0, np.nan, np.nan)
    _, groups = np.unique(counts, axis=0, return_inverse=True)
    groups = groups.ravel()  # NumPy 2.0 gives them another shape
    differences = len(groups) - int(groups.max()) - 1
    within = differences >= FEWEST
    labelled, predicted = (
        _over_means(groups, energies / counts.sum(axis=1))
        if within
        else fit_atoms(counts, energies).residuals
        for energies in (labels, model)
    )
    scale, correlation = proportion(predicted, labelled)
    return EnergyAgreement(
        differences,
        left=_root_mean_square(labelled - predicted),
        labels=_root_mean_square(labelled),
        model=_root_mean_square(predicted),
        scale=scale,
        correlation=correlation,
    )


def _over_means(groups: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """The energies without the mean of their group."""
    means = np.bincount(groups, energies) / np.bincount(groups)
    return energies - means[groups]


def proportion(values: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Slope of values over predicted ones, through zero, and their correlation; NaN of nothing."""
    product, square = float(np.sum(values * predicted)), float(np.sum(predicted**2))
    if not square > 0 or not np.any(values):
        return np.nan, np.nan
    return product / square, product / float(np.sqrt(np.sum(values**2) * square))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
