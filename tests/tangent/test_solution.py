"""The posterior of the correction, against dense algebra and the solution itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_tangent_evidence import (
    CHOICE,
    N_LABELS,
    N_PARAMETERS,
    precision,
    problem,
    rows,
    solution_of,
)

from mace_weak.tangent.solution import Posterior, inverse, solve

__all__ = ["problem", "rows"]  # fixtures


def test_the_variances_are_those_of_the_solution(problem, rows):
    solution = solve(problem)
    posterior = Posterior.of(solution, rows, seed=1)
    expected = solution.posterior_variance(problem.probes)
    assert len(solution.candidates) > 1
    np.testing.assert_allclose(posterior.variances(rows[problem.probes]), expected, rtol=1e-6)


def test_energies_are_as_open_as_dense_algebra_says(problem, rows):
    """A regression on features and compositions, whose prior is wide."""
    posterior = Posterior.of(solution_of(problem, CHOICE), rows, seed=1)
    features = np.random.default_rng(2).normal(size=(3, N_PARAMETERS))
    counts = np.array([[2.0, 1.0], [3.0, 5.0], [0.0, 2.0]])
    prior = np.zeros((N_PARAMETERS + 2, N_PARAMETERS + 2))
    prior[:N_PARAMETERS, :N_PARAMETERS] = CHOICE.amplitude**-2 * precision(problem, rows)
    design = np.hstack([rows[:N_LABELS], problem.composition])
    covariance = np.linalg.inv(prior + design.T @ design / CHOICE.noise**2)
    unseen = np.hstack([features, counts])
    expected = np.einsum("si,ij,sj->s", unseen, covariance, unseen)
    expected += CHOICE.noise**2 * counts.sum(axis=1)
    found = posterior.energy_spreads(features, counts)
    np.testing.assert_allclose(found**2, expected, rtol=1e-6)


def test_an_energy_of_another_composition_is_open(problem, rows):
    alike = np.tile([[2.0, 1.0]], (N_LABELS, 1))
    only_one = replace(problem, composition=alike)
    posterior = Posterior.of(solve(only_one), rows, seed=1)
    features = rows[:2]
    known, other = posterior.energy_spreads(features, np.array([[4.0, 2.0], [1.0, 2.0]]))
    assert np.isfinite(known)
    assert other == np.inf


@pytest.mark.parametrize("kinds", [[10, 8], [7, 8], [9, 8, 4], [2, 6, 1], [11, 14, 1, 1]])
def test_one_composition_is_determined_by_any_number_of_its_structures(kinds):
    """Sums of equal rows are not of the rank 1 to the last digit."""
    counts = np.array([kinds], dtype=float)
    for number in range(1, 600):
        rows = np.repeat(counts, number, axis=0) / counts.sum() ** 0.5
        compositions = rows.T @ rows
        explained = counts @ inverse(compositions) @ compositions
        np.testing.assert_allclose(explained, counts, rtol=1e-6)


def test_what_is_kept_gives_the_same(problem, rows):
    posterior = Posterior.of(solve(problem), rows, seed=1)
    again = roundtrip(posterior)
    probes = rows[problem.probes]
    assert again.variances(probes) == pytest.approx(posterior.variances(probes), rel=1e-4)
    assert again.seed == posterior.seed


@pytest.mark.parametrize("noise", [1e-3, 1e-6])
def test_labels_of_little_noise_keep_their_digits(problem, rows, noise):
    """They fix features to their noise but for the energies of two kinds of atoms."""
    solution = solution_of(problem, replace(CHOICE, noise=noise))
    for posterior in (found := Posterior.of(solution, rows, seed=1), roundtrip(found)):
        labels = rows[:N_LABELS] - problem.composition @ posterior.centre
        expected = noise * (1 - 2 / N_LABELS) ** 0.5
        np.testing.assert_allclose(np.sqrt(posterior.variances(labels)), expected, rtol=0.05)


def roundtrip(posterior: Posterior) -> Posterior:
    """As it is read from a file."""
    return Posterior.from_content(posterior.content())


def test_features_that_no_label_has_are_as_open_as_the_prior_leaves_them(problem, rows):
    posterior = Posterior.of(solution_of(problem, CHOICE), rows, seed=1)
    some = rows[problem.probes]
    squares = np.arange(len(some), dtype=float)
    expected = posterior.variances(some) + CHOICE.amplitude**2 * squares
    found = posterior.force_spreads(some, unseen=squares)
    np.testing.assert_allclose(found**2, expected)
