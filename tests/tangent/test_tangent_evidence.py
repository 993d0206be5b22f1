"""The evidence and its solution, against dense algebra, integration and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, WhiteKernel

from mace_weak.losses import TAYLOR
from mace_weak.tangent.evidence import Choice, Kernel, Problem, Search, Solution, solve
from mace_weak.tangent.prior import FORCES

N_LABELS, N_WEAK, N_PROBES, N_PARAMETERS = 12, 6, 5, 40
WEIGHTS = {TAYLOR: 3.0, FORCES: 0.5}
CHOICE = Choice(
    noise=0.3, amplitude=0.7, weights=WEIGHTS, force_noise=0.3, log_evidence=float("nan")
)


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
    solution = Solution(problem, CHOICE)
    change = rows.T @ solution.coefficients
    np.testing.assert_allclose(change, mean[:N_PARAMETERS], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.shifts, mean[N_PARAMETERS:], rtol=1e-7, atol=1e-9)
    probes = rows[problem.probes]
    covariance = posterior[:N_PARAMETERS, :N_PARAMETERS]
    expected = np.einsum("ij,jk,ik->i", probes, covariance, probes)
    np.testing.assert_allclose(solution.posterior_variance(problem.probes), expected, rtol=1e-6)


def test_errors_left_out_are_those_of_fits_without_each_label(problem, rows):
    found, spread = Solution(problem, CHOICE).left_out()
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
    errors, _ = Solution(problem, CHOICE).left_out()
    assert np.isnan(errors[0])
    assert np.isfinite(errors[1:]).all()


def test_the_mean_is_that_of_scikit_learns_gaussian_process(rows):
    """Without weak terms and without kinds of atoms."""
    targets = np.random.default_rng(2).normal(size=N_LABELS)
    problem = problem_of(rows, targets, np.empty((N_LABELS, 0)), terms=False)
    choice = Choice(
        noise=0.3, amplitude=0.7, weights={}, force_noise=0.3, log_evidence=float("nan")
    )
    solution = Solution(problem, choice)
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


def test_search_values_its_choice_by_the_restricted_likelihood(problem):
    """Differences of the evidence between choices are those of the likelihood and the priors."""
    search = Search(problem)

    def likelihood(choice: Choice) -> float:
        own = problem.projection
        kernel = Kernel(problem, choice.weights, np.ones(N_LABELS)).of_labels
        total = choice.amplitude**2 * kernel + choice.noise**2 * np.eye(N_LABELS)
        return float(multivariate_normal(cov=own.T @ total @ own).logpdf(own.T @ problem.targets))

    from mace_weak.tangent.evidence import AMPLITUDE, NOISE, WEIGHT, log_normal

    def priors(choice: Choice) -> float:
        kernel = Kernel(problem, choice.weights, np.ones(N_LABELS))
        unit = np.sqrt(np.mean(kernel.variance(problem.probes))) / problem.length
        weights = sum(log_normal(weight, WEIGHT) for weight in choice.weights.values())
        scale = log_normal(choice.amplitude * unit, AMPLITUDE)
        return float(log_normal(choice.noise, NOISE) + scale + weights)

    one, other = search.at(np.array([0.0, 0.0])), search.at(np.array([2.0, -1.0]))
    expected = likelihood(one) + priors(one) - likelihood(other) - priors(other)
    assert one.log_evidence - other.log_evidence == pytest.approx(expected, rel=1e-6)


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
    assert choice.noise == pytest.approx(noise, rel=0.15)
    assert choice.amplitude == pytest.approx(amplitude, rel=0.3)


def test_the_weight_of_a_term_that_holds_is_high_and_of_one_that_does_not_low(rows):
    """Labels of a correction without components along the rows of one term."""
    generator = np.random.default_rng(4)
    held, open_rows = rows[N_LABELS : N_LABELS + N_WEAK], rows[N_LABELS + N_WEAK :][:N_WEAK]
    basis = np.linalg.svd(held, full_matrices=True)[2][N_WEAK:]
    change = basis.T @ (basis @ (open_rows.T @ generator.normal(size=N_WEAK)))
    problem = problem_of(rows, 0.3 * rows[:N_LABELS] @ change, np.ones((N_LABELS, 1)))
    weights = solve(problem).choice.weights
    assert weights[TAYLOR] > weights[FORCES]
