"""The slope of predicted against reference forces, and its standard error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mace_weak.command.model_errors import force_slope, slope_error


def forces(sizes, *, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((size, 3)) for size in sizes]


def softened(reference, *, slope, scatter, noise, seed=1):
    """Each structure with a slope of its own, and noise on each component."""
    generator = np.random.default_rng(seed)
    return [
        (slope + scatter * generator.standard_normal()) * one
        + noise * generator.standard_normal(one.shape)
        for one in reference
    ]


def test_softer_forces_have_their_factor_as_slope():
    reference = forces([3, 9, 1, 4])
    predicted = [0.8 * one for one in reference]
    assert force_slope(predicted, reference) == pytest.approx(0.8)
    assert slope_error(predicted, reference) == pytest.approx(0.0, abs=1e-12)


def test_the_slope_is_that_of_least_squares_through_zero():
    reference = forces([3, 9, 1, 4])
    predicted = softened(reference, slope=0.9, scatter=0.1, noise=0.5)
    own, labels = (np.concatenate(each).ravel() for each in (predicted, reference))
    fitted = np.linalg.lstsq(labels[:, None], own, rcond=None)[0][0]
    assert force_slope(predicted, reference) == pytest.approx(fitted)


@pytest.mark.parametrize(("scatter", "noise"), [(0.2, 0.0), (0.0, 0.5), (0.1, 0.3)])
def test_the_spread_is_that_of_a_bootstrap_over_structures(scatter, noise):
    reference = forces([2 + number % 7 for number in range(80)])
    predicted = softened(reference, slope=0.9, scatter=scatter, noise=noise)
    generator = np.random.default_rng(2)
    drawn = []
    for _ in range(2000):
        chosen = generator.integers(80, size=80)
        drawn.append(force_slope([predicted[i] for i in chosen], [reference[i] for i in chosen]))
    assert slope_error(predicted, reference) == pytest.approx(np.std(drawn), rel=0.1)


def test_atoms_of_one_structure_count_together():
    """Else many atoms that err alike would look like certainty."""
    few, many = forces([5] * 40), forces([50] * 40)
    spreads = [
        slope_error(softened(one, slope=0.9, scatter=0.2, noise=0.0), one) for one in (few, many)
    ]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.3)


def test_without_forces_there_is_no_slope():
    zeros = [np.zeros((4, 3))] * 3
    assert math.isnan(force_slope(zeros, zeros))
    assert math.isnan(slope_error(zeros, zeros))
    assert math.isnan(force_slope([], []))


def test_one_structure_has_a_slope_and_no_spread():
    reference = forces([6])
    assert force_slope(reference, reference) == pytest.approx(1.0)
    assert math.isnan(slope_error(reference, reference))
