"""The space of descriptors of a pool of structures: components, distances, duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin
from sklearn.utils.extmath import row_norms

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
        mean = features.mean(axis=0, dtype=np.float64)
        spread = features.std(axis=0, dtype=np.float64)
        varies = spread > ROUNDING * np.abs(features).max()
        if not varies.any():
            return cls(mean, np.zeros((len(mean), 0)), np.zeros(0))
        standardised = (features[:, varies] - mean[varies]) / spread[varies]
        found = PCA(HELD, svd_solver="covariance_eigh", copy=False).fit(standardised)
        shares = found.explained_variance_ratio_[:MOST_COMPONENTS]
        axes = found.components_[:MOST_COMPONENTS].T
        whitening = np.zeros((len(mean), len(shares)))
        # each standardised feature has variance one
        whitening[varies] = axes / np.sqrt(shares * varies.sum()) / spread[varies, None]
        return cls(mean, whitening, shares)

    def rows(self, features: np.ndarray) -> np.ndarray:
        """Rows of the design (n_rows, 1 + n_components): one, and components of variance one."""
        result = np.ones((len(features), 1 + len(self.shares)))
        for start in range(0, len(features), BLOCK):
            block = slice(start, start + BLOCK)
            result[block, 1:] = (features[block] - self.mean) @ self.whitening
        return result

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Positions (n_rows, n_components) of rows, by whose distances structures are compared."""
        return rows[:, 1:] * np.sqrt(self.shares)

    @property
    def prior(self) -> np.ndarray:
        """Information (p, p) before any label, p = 1 + n_components: a ridge λI on the positions.

        In the basis of the rows, in which the second moments of the pool are the unit matrix: so
        tr M⁻¹ is the variance of a prediction averaged over the pool, and A-optimal is V-optimal.
        """
        return np.diag(RIDGE / np.concatenate([[1.0], self.shares]))


def farthest(
    points: np.ndarray, count: int, *, labelled: np.ndarray, allowed: np.ndarray
) -> np.ndarray:
    """Indices (count,) of points (n_points, d), each the farthest from all before and labelled.

    ``allowed`` (n_points,) is true for those that may be chosen. Without labelled points (m, d) the
    first is the one nearest to the mean. (scikit-learn chooses no farthest points.)
    """
    free = np.where(allowed, 0.0, -np.inf)
    norms = row_norms(points, squared=True)[:, None]
    chosen: list[int] = []

    def squares_to(point: np.ndarray) -> np.ndarray:
        return euclidean_distances(points, point[None], X_norm_squared=norms, squared=True)[:, 0]

    if len(labelled):
        nearest = nearest_distances(points, labelled) ** 2
    else:
        chosen.append(int(np.argmin(squares_to(points.mean(axis=0)) - free)))
        nearest = np.full(len(points), np.inf)
    while True:
        for last in chosen[-1:]:
            nearest = np.minimum(nearest, squares_to(points[last]))
            free[last] = -np.inf
        if len(chosen) == count:
            return np.array(chosen)
        chosen.append(int(np.argmax(nearest + free)))


def nearest_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Distance (n_points,) of each point (n_points, d) to the nearest centre (n_centres, d)."""
    if not points.shape[1]:
        return np.zeros(len(points))
    nearest = centres[pairwise_distances_argmin(points, centres)]
    return np.linalg.norm(points - nearest, axis=1)


def duplicates(points: np.ndarray) -> np.ndarray:
    """Whether each point (n_points, d) is the same as an earlier one, (n_points,)."""
    result = np.ones(len(points), dtype=bool)
    if not points.shape[1]:
        result[:1] = False
        return result
    groups = DBSCAN(eps=SAME, min_samples=1, algorithm="kd_tree").fit_predict(points)
    result[np.unique(groups, return_index=True)[1]] = False
    return result
