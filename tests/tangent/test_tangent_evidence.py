"""The evidence and its solution, against dense algebra, integration and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, WhiteKernel

from mace_weak.losses import FORCES, TAYLOR
from mace_weak.tangent.evidence import (
    AMPLITUDE,
    NOISE,
    Candidate,
    Choice,
    Kernel,
    Problem,
    log_normal,
)
from mace_weak.tangent.solution import INCLUDED, Solution, solve, trials

N_LABELS, N_WEAK, N_PROBES, N_PARAMETERS = 12, 6, 5, 40
WEIGHTS = {TAYLOR: 3.0, FORCES: 0.5}
EITHER = {TAYLOR: 0.5, FORCES: 0.5}
CHOICE = Choice(noise=0.3, amplitude=0.7, weights=WEIGHTS, force_noise=0.3)


@pytest.fixture
def rows() -> np.ndarray:
    n_rows = N_LABELS + 2 * N_WEAK + N_PROBES
    return np.random.default_rng(0).normal(size=(n_rows, N_PARAMETERS))


def problem_of(
    rows: np.ndarray, targets: np.ndarray, composition: np.ndarray, *, terms: bool = True
) -> Problem:
    first, second = N_LABELS + N_WEAK, N_LABELS + 2 * N_WEAK
    spans = {TAYLOR: slice(N_LABELS, first), FORCES: slice(first, second)}
    return Problem(
        gram=rows @ rows.T,
        targets=targets,
        composition=composition,
        is_force=np.zeros(N_LABELS, dtype=bool),
        terms=spans if terms else {},
        probes=slice(second, len(rows)),
        length=0.05,
    )


@pytest.fixture
def problem(rows) -> Problem:
    targets = np.random.default_rng(1).normal(size=N_LABELS)
    composition = np.tile([[2.0, 1.0], [1.0, 4.0]], (N_LABELS // 2, 1))
    return problem_of(rows, targets, composition)


def solution_of(problem: Problem, choice: Choice) -> Solution:
    """For given hyperparameters."""
    return Solution(problem, [Candidate(problem, choice.weights, fixed=choice)])


def precision(problem: Problem, rows: np.ndarray) -> np.ndarray:
    """Λ as a dense matrix."""
    result = np.eye(N_PARAMETERS)
    for term, span in problem.terms.items():
        own = rows[span]
        result += WEIGHTS[term] / problem.scales[term] * own.T @ own
    return result


def test_the_kernel_is_that_of_dense_algebra(problem, rows):
    labels = rows[:N_LABELS]
    kernel = Kernel(problem, WEIGHTS, np.ones(N_LABELS))
    covariance = np.linalg.inv(precision(problem, rows))
    np.testing.assert_allclose(kernel.of_labels, labels @ covariance @ labels.T, rtol=1e-8)
    probes = rows[problem.probes]
    np.testing.assert_allclose(
        kernel.cross(problem.probes), probes @ covariance @ labels.T, rtol=1e-8
    )
    expected = np.einsum("ij,jk,ik->i", probes, covariance, probes)
    np.testing.assert_allclose(kernel.variance(problem.probes), expected, rtol=1e-8)


def test_mean_and_variance_are_those_of_dense_algebra(problem, rows):
    """Generalised least squares of δ and β together, in the space of the parameters."""
    design = np.hstack([rows[:N_LABELS], problem.composition])
    prior = np.zeros((design.shape[1], design.shape[1]))
    prior[:N_PARAMETERS, :N_PARAMETERS] = precision(problem, rows) / CHOICE.amplitude**2
    posterior = np.linalg.inv(prior + design.T @ design / CHOICE.noise**2)
    mean = posterior @ design.T @ problem.targets / CHOICE.noise**2
    solution = solution_of(problem, CHOICE)
    change = rows.T @ solution.coefficients
    np.testing.assert_allclose(change, mean[:N_PARAMETERS], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.shifts, mean[N_PARAMETERS:], rtol=1e-7, atol=1e-9)
    probes = rows[problem.probes]
    covariance = posterior[:N_PARAMETERS, :N_PARAMETERS]
    expected = np.einsum("ij,jk,ik->i", probes, covariance, probes)
    np.testing.assert_allclose(solution.posterior_variance(problem.probes), expected, rtol=1e-6)


def test_errors_left_out_are_those_of_fits_without_each_label(problem, rows):
    found, spread = solution_of(problem, CHOICE).left_out()
    covariance = CHOICE.amplitude**2 * np.linalg.inv(precision(problem, rows))
    total = rows[:N_LABELS] @ covariance @ rows[:N_LABELS].T
    for number in range(N_LABELS):
        kept = np.arange(N_LABELS) != number
        inverse = np.linalg.inv(total[np.ix_(kept, kept)] + CHOICE.noise**2 * np.eye(N_LABELS - 1))
        design, targets = problem.composition[kept], problem.targets[kept]
        normal = np.linalg.inv(design.T @ inverse @ design)
        shifts = normal @ design.T @ inverse @ targets
        weights = inverse @ total[kept, number]
        predicted = problem.composition[number] @ shifts + weights @ (targets - design @ shifts)
        rest = problem.composition[number] - weights @ design
        variance = total[number, number] + CHOICE.noise**2 - weights @ total[kept, number]
        variance += rest @ normal @ rest
        assert found[number] == pytest.approx(problem.targets[number] - predicted, rel=1e-6)
        assert spread[number] == pytest.approx(variance**0.5, rel=1e-6)


def test_a_label_that_no_other_predicts_has_no_error_left_out(rows):
    composition = np.ones((N_LABELS, 2))
    composition[1:, 1] = 0.0  # the second kind of atom is in one structure alone
    problem = problem_of(rows, np.arange(N_LABELS, dtype=float), composition)
    errors, _ = solution_of(problem, CHOICE).left_out()
    assert np.isnan(errors[0])
    assert np.isfinite(errors[1:]).all()


def test_the_mean_is_that_of_scikit_learns_gaussian_process(rows):
    """Without weak terms and without kinds of atoms."""
    targets = np.random.default_rng(2).normal(size=N_LABELS)
    problem = problem_of(rows, targets, np.empty((N_LABELS, 0)), terms=False)
    choice = Choice(noise=0.3, amplitude=0.7, weights={}, force_noise=0.3)
    solution = solution_of(problem, choice)
    kernel = ConstantKernel(0.7**2) * DotProduct(0.0, "fixed") + WhiteKernel(0.3**2)
    process = GaussianProcessRegressor(kernel, optimizer=None).fit(rows[:N_LABELS], targets)
    mean, spread = process.predict(rows[problem.probes], return_std=True)
    np.testing.assert_allclose(solution.mean(problem.probes), mean, rtol=1e-7)
    variance = solution.posterior_variance(problem.probes) + 0.3**2  # theirs is of noisy labels
    np.testing.assert_allclose(variance, spread**2, rtol=1e-7)


def test_the_evidence_is_the_integral_over_parameters_and_shifts(rows):
    """Two labels of one composition, one parameter: β from −∞ to ∞, δ by its prior."""
    gradients, targets = np.array([0.4, -0.7]), np.array([0.3, 1.1])
    noise, amplitude = 0.5, 1.3

    def density(change: float, shift: float) -> float:
        errors = targets - gradients * change - shift
        likelihood = np.exp(-0.5 * np.sum(errors**2) / noise**2) / (2 * np.pi * noise**2)
        return (
            likelihood * np.exp(-0.5 * (change / amplitude) ** 2) / (2 * np.pi) ** 0.5 / amplitude
        )

    integral, _ = integrate.dblquad(density, -20, 20, -20, 20)
    difference = np.array([1.0, -1.0]) / 2**0.5  # what no common shift explains
    variance = amplitude**2 * (difference @ gradients) ** 2 + noise**2
    restricted = multivariate_normal(0.0, variance).pdf(difference @ targets)
    # a flat prior on the shift, along (1, 1)/√2 of length √2, integrates to 1/√2
    assert integral == pytest.approx(restricted / 2**0.5, rel=1e-6)


def test_a_candidate_is_weighed_by_its_likelihood_and_priors(problem):
    """The mean over noise and amplitude, by adaptive integration."""
    problem = replace(problem, targets=0.02 * problem.targets)  # within the grid
    candidate = Candidate(problem, WEIGHTS)
    own, kernel = problem.projection, Kernel(problem, WEIGHTS, np.ones(N_LABELS))
    matrix = own.T @ kernel.of_labels @ own
    unit = np.sqrt(np.mean(kernel.variance(problem.probes))) / problem.length
    targets = own.T @ problem.targets

    def density(log_noise: float, log_amplitude: float, power: int) -> float:
        noise, amplitude = np.exp(log_noise), np.exp(log_amplitude)
        total = amplitude**2 * matrix + noise**2 * np.eye(len(matrix))
        value = multivariate_normal(cov=total).logpdf(targets)
        value += log_normal(noise, NOISE) + log_normal(amplitude * unit, AMPLITUDE)
        return float(np.exp(value) * amplitude**power)

    limits = (np.log(1e-2 / unit), np.log(10 / unit), np.log(1e-6), 0.0)
    whole, square = (
        integrate.dblquad(density, *limits, args=(power,), epsrel=1e-4)[0] for power in (0, 2)
    )
    assert candidate.moments.square == pytest.approx(square / whole, rel=0.02)
    others = Candidate(problem, {TAYLOR: 100.0, FORCES: 0.01})
    again = Candidate(problem, WEIGHTS)
    assert again.log_evidence == candidate.log_evidence
    assert others.log_evidence != candidate.log_evidence


def test_weights_are_averaged_by_their_evidence(problem):
    one, other = Candidate(problem, WEIGHTS), Candidate(problem, {TAYLOR: 100.0, FORCES: 0.01})
    solution = Solution(problem, [one, other])
    share = 1 / (1 + np.exp(other.log_evidence - one.log_evidence))
    expected = share * one.coefficients + (1 - share) * other.coefficients
    np.testing.assert_allclose(solution.coefficients, expected, rtol=1e-10)
    probes = problem.probes
    means = [problem.gram[probes] @ own.coefficients for own in (one, other)]
    within = share * one.variance(probes) + (1 - share) * other.variance(probes)
    between = share * (1 - share) * (means[0] - means[1]) ** 2
    np.testing.assert_allclose(solution.posterior_variance(probes), within + between, rtol=1e-8)


def test_the_choice_recovers_noise_and_amplitude_of_data_drawn_from_the_prior():
    generator = np.random.default_rng(3)
    n_labels, noise, amplitude = 300, 0.02, 0.5
    rows = generator.normal(size=(n_labels + 20, 60)) / 60**0.5
    targets = amplitude * rows[:n_labels] @ generator.normal(size=60)
    targets += noise * generator.normal(size=n_labels) - 7.0
    problem = Problem(
        gram=rows @ rows.T, targets=targets, composition=np.ones((n_labels, 1)),
        is_force=np.zeros(n_labels, dtype=bool), terms={}, probes=slice(n_labels, None), length=1.0,
    )  # fmt: skip
    choice = solve(problem).choice
    assert choice.noise == pytest.approx(noise, rel=0.25)
    assert choice.amplitude == pytest.approx(amplitude, rel=0.35)


@pytest.fixture
def held_by_taylor(rows) -> Problem:
    """Labels of a correction without components along the rows of this term, but of the other."""
    generator = np.random.default_rng(4)
    held, open_rows = rows[N_LABELS : N_LABELS + N_WEAK], rows[N_LABELS + N_WEAK :][:N_WEAK]
    basis = np.linalg.svd(held, full_matrices=True)[2][N_WEAK:]
    change = basis.T @ (basis @ (open_rows.T @ generator.normal(size=N_WEAK)))
    return problem_of(rows, 0.3 * rows[:N_LABELS] @ change, np.ones((N_LABELS, 1)))


def test_the_weight_of_a_term_that_holds_is_high_and_of_one_that_does_not_low(held_by_taylor):
    weights = solve(held_by_taylor, included={}).choice.weights
    assert weights[TAYLOR] > weights[FORCES]


def test_a_term_that_holds_is_included_and_one_that_does_not_is_not(held_by_taylor):
    inclusion = solve(held_by_taylor, included=EITHER).inclusion
    assert inclusion[FORCES] < 0.5 < inclusion[TAYLOR]
    assert solve(held_by_taylor).inclusion[FORCES] < INCLUDED[FORCES]


def test_each_term_is_included_with_its_prior_probability(problem):
    for terms in (problem.terms, {TAYLOR: problem.terms[TAYLOR]}, {}):
        tried = trials(replace(problem, terms=terms), {TAYLOR: 0.3, FORCES: 0.3})
        chances = np.exp([one.log_prior for one in tried])
        assert chances.sum() == pytest.approx(1.0)
        for term in terms:
            included = np.array([term in one.weights for one in tried])
            assert chances[included].sum() == pytest.approx(0.3)


def test_terms_are_included_by_the_evidence_with_and_without_them(problem):
    """One term: the ratio of the probabilities is that of the mean likelihoods."""
    problem = replace(problem, terms={TAYLOR: problem.terms[TAYLOR]})
    without = np.exp(Candidate(problem, {}).log_evidence)
    (_, *slab) = trials(problem, EITHER)
    likelihoods = [Candidate(problem, one.weights).log_evidence for one in slab]
    shares = np.exp([one.log_prior for one in slab])
    included = float(shares / shares.sum() @ np.exp(likelihoods))
    expected = included / (included + without)
    assert solve(problem, included=EITHER).inclusion[TAYLOR] == pytest.approx(
        expected, abs=0.01
    )  # without unlikely


def test_terms_are_left_out_or_kept_as_asked(problem):
    never = solve(problem, included={TAYLOR: 0.0, FORCES: 0.0})
    without = solve(replace(problem, terms={}))
    np.testing.assert_allclose(never.coefficients, without.coefficients, atol=1e-12)
    assert never.inclusion == {TAYLOR: 0.0, FORCES: 0.0}
    assert never.choice.weights == {}
    always = solve(problem, included={})
    assert always.inclusion == pytest.approx({TAYLOR: 1.0, FORCES: 1.0})


def test_the_correction_is_smooth_but_may_have_forces(problem):
    tried = trials(problem)
    assert all(TAYLOR in one.weights for one in tried)
    assert any(FORCES not in one.weights for one in tried)
