"""The space of descriptors of a pool of structures: components, distances, duplicates, coverage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

HELD = 0.999  # share of the variance of the descriptors that the components hold
RIDGE = 1 - HELD  # what they leave out acts on the labels as noise
MOST_COMPONENTS = 64
ROUNDING = 1e-5  # features that vary less, relative to the largest value, vary by chance
SAME = 1e-4  # distance of two structures that are one, where the whole pool's spread is 1
BLOCK = 8192  # rows at a time, where a whole array would be copied


@dataclass(frozen=True)
class Space:
    """Principal components of the standardised descriptors of a pool.

    ``mean`` (n_features,), ``whitening`` (n_features, n_components), ``shares`` (n_components,)
    are the components' parts of the variance.
    """

    mean: np.ndarray
    whitening: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Space:
        """The components that hold most of the variance of features (n_rows, n_features)."""
        width = features.shape[1]
        total, products = np.zeros(width), np.zeros((width, width))
        for block in _blocks(features):
            total += block.sum(axis=0)
        mean = total / len(features)
        for block in _blocks(features):
            products += (block - mean).T @ (block - mean)
        spread = np.sqrt(np.diag(products) / len(features))
        varies = spread > ROUNDING * np.abs(features).max()
        if not varies.any():
            return cls(mean, np.zeros((width, 0)), np.zeros(0))
        scale = np.where(varies, spread, np.inf)
        variances, axes = np.linalg.eigh(products / len(features) / np.outer(scale, scale))
        variances, axes = variances[::-1], axes[:, ::-1]
        shares = variances / variances.sum()
        most = min(int(np.searchsorted(np.cumsum(shares), HELD)) + 1, MOST_COMPONENTS, width)
        whitening = axes[:, :most] / np.sqrt(variances[:most]) / scale[:, None]
        return cls(mean, whitening, shares[:most])

    def rows(self, features: np.ndarray) -> np.ndarray:
        """Rows of the design (n_rows, 1 + n_components): one, and components of variance one."""
        result = np.ones((len(features), 1 + len(self.shares)))
        for number, block in enumerate(_blocks(features)):
            start = number * BLOCK
            result[start : start + BLOCK, 1:] = (block - self.mean) @ self.whitening
        return result

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Places (n_rows, n_components) of rows, by whose distances structures are compared."""
        return rows[:, 1:] * np.sqrt(self.shares)

    @property
    def prior(self) -> np.ndarray:
        """Information (p, p) before any label, p = 1 + n_components: a ridge λI on the places.

        In the basis of the rows, in which the second moments of the pool are the unit matrix: so
        tr M⁻¹ is the variance of a prediction averaged over the pool, and A-optimal is V-optimal.
        """
        return np.diag(RIDGE / np.concatenate([[1.0], self.shares]))


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK].astype(np.float64)


def farthest(
    points: np.ndarray, count: int, *, labelled: np.ndarray, allowed: np.ndarray
) -> np.ndarray:
    """Indices (count,) of points (n_points, d), each the farthest from all before and labelled.

    ``allowed`` (n_points,) says which may be chosen. Without labelled points (m, d) the first is
    the one nearest to the mean.
    """
    squares = np.einsum("nd,nd->n", points, points)
    free = np.where(allowed, 0.0, -np.inf)
    chosen: list[int] = []
    if len(labelled):
        nearest = nearest_distances(points, labelled) ** 2
    else:
        middle = points.mean(axis=0)
        chosen.append(int(np.argmin(squares - 2 * points @ middle - free)))
        nearest = np.full(len(points), np.inf)
    while True:
        for last in chosen[-1:]:
            nearest = np.minimum(nearest, squares - 2 * points @ points[last] + squares[last])
            free[last] = -np.inf
        if len(chosen) == count:
            return np.array(chosen)
        chosen.append(int(np.argmax(nearest + free)))


def nearest_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Distance (n_points,) of each point (n_points, d) to the nearest centre (n_centres, d)."""
    squares = np.einsum("nd,nd->n", centres, centres)
    result = np.empty(len(points))
    size = max(1, 10**7 // len(centres))  # bounds the memory
    for start in range(0, len(points), size):
        own = points[start : start + size]
        nearest = np.argmin(squares - 2 * own @ centres.T, axis=1)
        result[start : start + size] = np.linalg.norm(own - centres[nearest], axis=1)
    return result


def duplicates(points: np.ndarray) -> np.ndarray:
    """Whether each point (n_points, d) is the same as an earlier one, (n_points,).

    Same points are the same along any line, and a tree of three lines is fast.
    """
    lines = np.random.default_rng(0).standard_normal((points.shape[1], 3))
    shadows = points @ (lines / np.maximum(np.linalg.norm(lines, axis=0), 1e-300))
    pairs = cKDTree(shadows).query_pairs(SAME, p=np.inf, output_type="ndarray")
    first, second = points[pairs.T]
    pairs = pairs[np.linalg.norm(first - second, axis=1) <= SAME]
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points), len(points)))
    _, groups = connected_components(graph, directed=False)
    result = np.ones(len(points), dtype=bool)
    result[np.unique(groups, return_index=True)[1]] = False
    return result
