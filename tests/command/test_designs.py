"""Optimal designs: against all possible ones, and against designs that are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mace_weak.command.descriptor_space import Space, duplicates, farthest, nearest_distances
from mace_weak.command.designs import (
    DETERMINANT,
    TRACE,
    Criterion,
    Information,
    information_means,
    optimal,
)

CRITERIA = {"D": DETERMINANT, "A": TRACE}
SQUARE = np.array([[1.0, x, y] for x in (-1, -0.5, 0, 0.5, 1) for y in (-1, -0.5, 0, 0.5, 1)])


def random_rows(seed: int, count: int = 10, width: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width))


def prior(width: int = 3, ridge: float = 0.01) -> np.ndarray:
    return ridge * np.eye(width)


def worth(rows: np.ndarray, known: np.ndarray, criterion: Criterion) -> float:
    """Means of the eigenvalues of M, by determinant and inverse: the larger the better."""
    matrix = known + rows.T @ rows
    if criterion is DETERMINANT:
        return float(np.exp(np.linalg.slogdet(matrix)[1] / len(matrix)))
    return float(len(matrix) / np.trace(np.linalg.inv(matrix)))


def chosen(rows, count, criterion, known, **settings) -> np.ndarray:
    allowed = settings.pop("allowed", np.ones(len(rows), dtype=bool))
    return optimal(rows, count, known=known, criterion=criterion, allowed=allowed, **settings)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("seed", range(8))
def test_the_design_is_near_the_best_of_all(name, seed):
    rows, criterion, known = random_rows(seed), CRITERIA[name], prior()
    every = [
        worth(rows[list(some)], known, criterion) for some in itertools.combinations(range(10), 4)
    ]
    found = worth(rows[chosen(rows, 4, criterion, known)], known, criterion)
    assert 0.97 * max(every) <= found <= max(every) * (1 + 1e-12)
    assert found > np.mean(every)


@pytest.mark.parametrize("name", CRITERIA)
def test_four_points_in_a_square_are_its_corners(name):
    """The design of a plane whose coefficients are known best."""
    found = chosen(SQUARE, 4, CRITERIA[name], prior(ridge=1e-6))
    assert {tuple(row) for row in SQUARE[found]} == {
        (1, x, y) for x, y in itertools.product((-1, 1), repeat=2)
    }


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("seed", range(5))
def test_exchange_only_improves(name, seed):
    rows, criterion, known = random_rows(seed, 200, 6), CRITERIA[name], prior(6)
    worths = [
        worth(rows[chosen(rows, 12, criterion, known, passes=passes)], known, criterion)
        for passes in range(6)
    ]
    assert all(after >= before for before, after in itertools.pairwise(worths))
    assert worths[-1] > (1 + 1e-6) * worths[0]


@pytest.mark.parametrize("name", CRITERIA)
def test_no_single_exchange_is_better(name):
    rows, criterion, known = random_rows(3, 60, 4), CRITERIA[name], prior(4)
    found = chosen(rows, 7, criterion, known)
    best = worth(rows[found], known, criterion)
    for place, other in itertools.product(range(7), set(range(60)) - set(found.tolist())):
        tried = found.copy()
        tried[place] = other
        assert worth(rows[tried], known, criterion) <= best * (1 + 1e-8)


def test_the_gains_are_those_of_the_formulas():
    """Of one row more, of one less, and their bounds."""
    rows, matrix = random_rows(0, 40, 5), prior(5) + random_rows(1, 9, 5).T @ random_rows(1, 9, 5)
    matrix += rows[3:4].T @ rows[3:4]
    information = Information(rows, matrix)
    before = np.linalg.slogdet(matrix)[1], np.trace(np.linalg.inv(matrix))
    determinants, traces = gains(information, slice(None))
    for row, determinant, trace in zip(rows, determinants, traces, strict=True):
        more = matrix + np.outer(row, row)
        assert np.log1p(determinant) == pytest.approx(np.linalg.slogdet(more)[1] - before[0])
        assert trace == pytest.approx(before[1] - np.trace(np.linalg.inv(more)))
    limits = [criterion.bound(information, 3) for criterion in CRITERIA.values()]
    less = Information(rows, matrix - rows[3:4].T @ rows[3:4])
    for gain, limit in zip(gains(less, slice(None)), limits, strict=True):
        assert (gain <= limit * (1 + 1e-9)).all()
    information.change(3, -1)
    np.testing.assert_allclose(information.inverse, less.inverse, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(information.variances, less.variances, rtol=1e-8)
    np.testing.assert_allclose(information.squares, less.squares, rtol=1e-8)


def gains(information: Information, of: slice) -> list[np.ndarray]:
    return [
        criterion.gain(information.variances[of], information.squares[of])
        for criterion in CRITERIA.values()
    ]


def test_the_means_are_of_the_eigenvalues():
    rows = random_rows(0, 20, 4)
    expected = [worth(rows, prior(4), criterion) for criterion in CRITERIA.values()]
    assert information_means(rows, prior(4)) == pytest.approx(expected)


@pytest.mark.parametrize("name", CRITERIA)
def test_what_is_labelled_counts(name):
    """With three corners of a square labelled, the fourth is the one to label."""
    corners = np.array([[1.0, -1, -1], [1, -1, 1], [1, 1, -1]])
    known = prior(ridge=1e-6) + corners.T @ corners
    (found,) = chosen(SQUARE, 1, CRITERIA[name], known)
    assert tuple(SQUARE[found]) == (1, 1, 1)


@pytest.mark.parametrize("name", CRITERIA)
def test_only_the_allowed_are_chosen_and_none_twice(name):
    rows = random_rows(0, 30)
    allowed = np.arange(30) % 3 != 0
    found = chosen(rows, 20, CRITERIA[name], prior(), allowed=allowed)
    assert len(set(found.tolist())) == 20
    assert allowed[found].all()


@pytest.mark.parametrize("name", CRITERIA)
def test_the_order_of_the_pool_does_not_matter(name):
    features = random_rows(0, 100, 8)
    shuffled = np.random.default_rng(1).permutation(100)
    first, second = Space.of(features), Space.of(features[shuffled])
    found = chosen(first.rows(features), 10, CRITERIA[name], first.prior)
    again = chosen(second.rows(features[shuffled]), 10, CRITERIA[name], second.prior)
    assert shuffled[again].tolist() == found.tolist()
    points = first.points(first.rows(features))
    far, far_again = (
        farthest(some, 10, labelled=some[:0], allowed=np.ones(100, dtype=bool))
        for some in (points, points[shuffled])
    )
    assert shuffled[far_again].tolist() == far.tolist()


def test_the_space_holds_the_variance():
    """Of three directions with noise; the scale of a feature and a constant one do not matter."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((500, 3)) @ generator.standard_normal((3, 10))
    features += 1e-3 * generator.standard_normal((500, 10)) + 5
    features = np.concatenate([features, np.full((500, 1), 2.0)], axis=1)
    space = Space.of(features.astype(np.float32))
    rows = space.rows(features)
    assert rows.shape == (500, 4)
    np.testing.assert_allclose(rows.T @ rows / 500, np.eye(4), atol=1e-4)
    points = space.points(rows)
    assert np.mean(np.sum(points**2, axis=1)) == pytest.approx(1, rel=2e-3)
    scaled = features * np.linspace(0.5, 2, 11)
    other = Space.of(scaled)
    np.testing.assert_allclose(other.shares, space.shares, rtol=1e-3)
    distances = [
        np.linalg.norm(p - p[0], axis=1) for p in (points, other.points(other.rows(scaled)))
    ]
    np.testing.assert_allclose(*distances, atol=1e-4)


def test_features_that_are_noise_span_no_space():
    noise = 1e-7 * np.random.default_rng(0).standard_normal((50, 4))
    space = Space.of((1 + noise).astype(np.float32))
    assert space.rows(1 + noise).shape == (50, 1)


def test_the_trace_is_the_variance_of_predictions_over_the_pool():
    features = random_rows(0, 300, 5) + 1.0
    space = Space.of(features)
    rows = space.rows(features)
    inverse = np.linalg.inv(space.prior + rows[:20].T @ rows[:20])
    average = np.mean(np.einsum("np,pq,nq->n", rows, inverse, rows))
    assert np.trace(inverse) == pytest.approx(average)


def test_farthest_points_spread():
    line = np.arange(9.0)[:, None]
    every = np.ones(9, dtype=bool)
    assert farthest(line, 3, labelled=line[:0], allowed=every)[0] == 4  # the middle
    assert set(farthest(line, 3, labelled=line[:0], allowed=every)) == {0, 4, 8}
    assert farthest(line, 1, labelled=line[:1], allowed=every).tolist() == [8]
    assert farthest(line, 2, labelled=line[[0, 8]], allowed=every)[0] == 4
    assert farthest(line, 1, labelled=line[:1], allowed=every & (line[:, 0] < 8)).tolist() == [7]
    assert sorted(farthest(line, 9, labelled=line[:0], allowed=every)) == list(range(9))


def test_farthest_points_cover_more_than_random_ones():
    points = random_rows(0, 400, 3)
    generator = np.random.default_rng(1)
    found = farthest(points, 20, labelled=points[:0], allowed=np.ones(400, dtype=bool))
    random = [points[generator.choice(400, 20, replace=False)] for _ in range(20)]
    worst = [nearest_distances(points, centres).max() for centres in random]
    assert nearest_distances(points, points[found]).max() < min(worst)


def test_nearest_distances():
    points, centres = random_rows(0, 30), random_rows(1, 7)
    expected = np.linalg.norm(points[:, None] - centres, axis=2).min(axis=1)
    np.testing.assert_allclose(nearest_distances(points, centres), expected)


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_duplicates_are_all_but_the_first(noise):
    points = random_rows(0, 50, 6)
    twice = np.concatenate([points, points[[3, 40, 3]], points[7:8] + 1e-2])
    twice += noise * random_rows(1, *twice.shape)
    assert np.flatnonzero(duplicates(twice)).tolist() == [50, 51, 52]


def test_duplicates_among_many_alike():
    """On a line of close, different points, and where all are the same."""
    line = np.concatenate([np.arange(2000) * 1.5e-4, np.arange(0, 2000, 10) * 1.5e-4])[:, None]
    assert np.flatnonzero(duplicates(line)).tolist() == list(range(2000, 2200))
    assert duplicates(np.zeros((5, 0))).tolist() == [False, True, True, True, True]
    assert duplicates(np.ones((2000, 3))).sum() == 1999
