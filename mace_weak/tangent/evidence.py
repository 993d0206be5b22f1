"""The evidence of the labels under the weak prior, and the solution that it chooses.

Labels y = Gδ + Tβ + ε: ``G`` are the rows of the labels, ``T`` the numbers of atoms of each kind,
β shifts of the atoms' energies with a flat prior, ε ~ N(0, σ²). All that is needed of the rows is
their Gram matrix: with the weak rows P scaled by w = √(λ/t), the prior's covariance of the labels
is a²K,

    K = K_gg − K_gp w (1 + w K_pp w)⁻¹ w K_pg,

and the restricted likelihood, β projected out by Nᵀ (NᵀT = 0), is that of Nᵀy under
NᵀKN a² + σ² (MacKay, Neural Comput. 4, 415 (1992); Immer et al., arXiv:2104.04975). The solution is
δ = Gᵀα − Pᵀ w (1 + w K_pp w)⁻¹ w K_pg α with α = N (NᵀKN + σ²/a²)⁻¹ Nᵀy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg, optimize

# Weak priors, log-normal: median and the factor of one standard deviation. They settle what few
# labels leave open, and cost little where there are many.
NOISE = (5e-4, 10.0)  # σ, eV for an atom, growing with √N
AMPLITUDE = (0.3, 3.0)  # of a force component of the correction, eV/Å
WEIGHT = (1.0, 100.0)  # λ
FORCE_NOISE = (0.1, 10.0)  # eV/Å, of force labels
LEAST_NOISE = 1e-6  # eV for an atom: no label is more exact, and no float64 sum of them
WEIGHTS = (-3.0, 6.0)  # decades of λ
LEAST_FORCE_NOISE = 1e-4  # eV/Å
MOST_NOISE = 1.0  # eV for an atom
AMPLITUDES = (1e-3, 30.0)  # eV/Å, of a force component of the correction
ROUNDING = 1e-14  # of the largest variance


LogPosterior = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Problem:
    """Labels, and the Gram matrix of all rows that belong to them.

    ``gram`` (n_rows, n_rows) has first the ``n_labels`` rows of the labels, divided by the size of
    their noise (√N for the energy of N atoms), then the weak rows of each term, then the probes.
    ``targets`` (n_labels,) in eV and ``composition`` (n_labels, n_kinds) are divided alike.
    ``is_force`` (n_labels,) says which labels are forces. ``length`` is that of the probes, Å.
    """

    gram: np.ndarray
    targets: np.ndarray
    composition: np.ndarray
    is_force: np.ndarray
    terms: dict[str, slice]
    probes: slice
    length: float

    @property
    def n_labels(self) -> int:
        return len(self.targets)

    @cached_property
    def projection(self) -> np.ndarray:
        """N (n_labels, n_left): what no shift of the atoms' energies can explain."""
        left, values, _ = np.linalg.svd(self.composition, full_matrices=True)
        rank = int(np.sum(values > 1e-9 * values.max(initial=0.0))) if len(values) else 0
        return left[:, rank:]

    @cached_property
    def scales(self) -> dict[str, float]:
        """t of each term."""
        diagonal = np.diag(self.gram)
        return {term: float(np.mean(diagonal[rows])) for term, rows in self.terms.items()}


@dataclass(frozen=True)
class Choice:
    """What the evidence chose, and its logarithm, priors included.

    ``noise`` σ in eV for an atom, ``amplitude`` a (no unit), ``weights`` λ of each term,
    ``force_noise`` in eV/Å (used only where forces are labels).
    """

    noise: float
    amplitude: float
    weights: dict[str, float]
    force_noise: float
    log_evidence: float


class Kernel:
    """The prior's covariance for given weights λ, in units of a²."""

    def __init__(
        self, problem: Problem, weights: dict[str, float], label_scale: np.ndarray
    ) -> None:
        self.problem = problem
        self.label_scale = label_scale
        gram = problem.gram
        self.weak = np.concatenate(
            [np.arange(gram.shape[0])[rows] for rows in problem.terms.values()] or [np.arange(0)]
        )
        roots = [
            np.full(rows.stop - rows.start, (weights[term] / problem.scales[term]) ** 0.5)
            for term, rows in problem.terms.items()
        ]
        self.roots = np.concatenate(roots or [np.empty(0)])
        inner = self.roots[:, None] * gram[np.ix_(self.weak, self.weak)] * self.roots
        inner[np.diag_indices_from(inner)] += 1.0
        self.factor = linalg.cholesky(inner, lower=True) if len(inner) else inner

    def held(self, rows: np.ndarray | slice) -> np.ndarray:
        """What the weak terms take from rows: (n_weak, n), whose squares are the covariance."""
        cross = self.roots[:, None] * self.problem.gram[self.weak][:, rows]
        return linalg.solve_triangular(self.factor, cross, lower=True) if len(cross) else cross

    @cached_property
    def of_labels(self) -> np.ndarray:
        """K of the labels, each divided by its scale (n_labels, n_labels)."""
        labels = slice(self.problem.n_labels)
        held = self.held(labels)
        free = self.problem.gram[labels, labels] - held.T @ held
        return free / self.label_scale[:, None] / self.label_scale

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (n_left,) and eigenvectors of NᵀKN; none is below what rounding leaves."""
        own = self.problem.projection
        values, vectors = np.linalg.eigh(own.T @ self.of_labels @ own)
        largest = np.max(np.diag(self.problem.gram)[: self.problem.n_labels] / self.label_scale**2)
        return np.clip(values, ROUNDING * largest, None), vectors

    def variance(self, rows: slice) -> np.ndarray:
        """Prior variances of rows, in units of a²."""
        held = self.held(rows)
        return np.diag(self.problem.gram)[rows] - np.sum(held**2, axis=0)

    def cross(self, rows: slice) -> np.ndarray:
        """Prior covariances of rows with the labels (n, n_labels), in units of a²."""
        labels = slice(self.problem.n_labels)
        free = self.problem.gram[rows, labels] - self.held(rows).T @ self.held(labels)
        return free / self.label_scale

    def onto_weak(self, weights: np.ndarray) -> np.ndarray:
        """Coefficients of the weak rows for those (n_labels,) of the labels."""
        if not len(self.weak):
            return np.empty(0)
        held = self.held(slice(self.problem.n_labels)) @ (weights / self.label_scale)
        return -self.roots * linalg.solve_triangular(self.factor, held, lower=True, trans="T")


def log_normal(value: np.ndarray | float, prior: tuple[float, float]) -> np.ndarray:
    """The logarithm of a log-normal prior, up to a constant."""
    median, factor = prior
    return -0.5 * (np.log(np.asarray(value) / median) / np.log(factor)) ** 2


class Search:
    """The choice of the evidence for one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.seen: dict[tuple[float, ...], Choice] = {}

    def best(self) -> Choice:
        """The choice of highest evidence, priors included.

        Weights and the ratio of the noises are searched on a coarse grid first: the evidence of
        few labels may have several maxima.
        """
        n_terms = len(self.problem.terms)
        axes = [np.arange(-2.0, 5.0, 2.0)] * n_terms
        if self.problem.is_force.any():
            axes.append(np.array([0.0, 1.0, 2.0, 3.0]))
        if not axes:
            return self.at(np.empty(0))
        start = max(
            itertools.product(*axes), key=lambda place: self.at(np.array(place)).log_evidence
        )
        bounds = [WEIGHTS] * n_terms + [(-2.0, 6.0)] * (len(axes) - n_terms)
        found = optimize.minimize(
            lambda place: -self.at(place).log_evidence,
            np.array(start),
            method="Nelder-Mead",
            bounds=bounds,
            options={
                "initial_simplex": np.array(start)
                + np.vstack([np.zeros(len(start)), np.eye(len(start))]),
                "xatol": 0.05,
                "fatol": 0.02,
                "maxfev": 40 * len(axes),
            },
        )
        return self.at(found.x)

    def at(self, place: np.ndarray) -> Choice:
        """The best noise and amplitude for the decades of the weights and of the noises' ratio."""
        key = tuple(float(value) for value in place)
        if key not in self.seen:
            self.seen[key] = self._at(key)
        return self.seen[key]

    def _at(self, place: tuple[float, ...]) -> Choice:
        problem = self.problem
        weights = {term: 10.0**decade for term, decade in zip(problem.terms, place, strict=False)}
        ratio = 10.0 ** place[-1] if len(place) > len(problem.terms) else 1.0
        kernel = Kernel(problem, weights, np.where(problem.is_force, ratio, 1.0))
        own = problem.projection
        values, vectors = kernel.spectrum
        squares = (vectors.T @ (own.T @ (problem.targets / kernel.label_scale))) ** 2
        variance = kernel.variance(problem.probes)
        unit = float(np.sqrt(np.mean(np.clip(variance, 0.0, None)))) / problem.length
        has_forces = bool(problem.is_force.any())

        def log_posterior(noise: Any, amplitude: Any) -> Any:
            total = amplitude[..., None] ** 2 * values + noise[..., None] ** 2
            fit = -0.5 * np.sum(np.log(total) + squares / total, axis=-1)
            fit = fit + log_normal(noise, NOISE) + log_normal(amplitude * unit, AMPLITUDE)
            if has_forces:
                force_noise = noise * ratio
                fit = fit + log_normal(force_noise, FORCE_NOISE)
                fit = np.where(force_noise < LEAST_FORCE_NOISE, -np.inf, fit)
            return fit

        noise, amplitude, value = _highest(log_posterior, unit)
        value -= 0.5 * float(np.sum(np.log(kernel.label_scale**2)))
        value += float(sum(log_normal(weight, WEIGHT) for weight in weights.values()))
        return Choice(noise, amplitude, weights, noise * ratio, value)


def _highest(log_posterior: LogPosterior, unit: float) -> tuple[float, float, float]:
    """Noise and amplitude of the highest value, found on a grid and refined.

    ``unit`` is the force of an amplitude of 1, eV/Å.
    """
    ranges = ((LEAST_NOISE, MOST_NOISE), (AMPLITUDES[0] / unit, AMPLITUDES[1] / unit))
    noises, amplitudes = (np.geomspace(*ends, 48) for ends in ranges)
    grid = log_posterior(*np.meshgrid(noises, amplitudes, indexing="ij"))
    row, column = np.unravel_index(int(np.argmax(grid)), grid.shape)
    found = optimize.minimize(
        lambda logs: -float(log_posterior(np.exp(logs[0]), np.exp(logs[1]))),
        np.log([noises[row], amplitudes[column]]),
        method="Nelder-Mead",
        bounds=[tuple(np.log(ends)) for ends in ranges],
        options={"xatol": 1e-3, "fatol": 1e-4},
    )
    return float(np.exp(found.x[0])), float(np.exp(found.x[1])), -float(found.fun)


class Solution:
    """The posterior of the correction for a choice.

    ``coefficients`` (n_rows,) are those of all rows, in the order of the Gram matrix: δ is the sum
    of the rows with them. ``shifts`` (n_kinds,) are β in eV, the smallest where several do.
    """

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice = problem, choice
        ratio = choice.force_noise / choice.noise
        scale = np.where(problem.is_force, ratio, 1.0)
        self.kernel = Kernel(problem, choice.weights, scale)
        own = problem.projection
        values, vectors = self.kernel.spectrum
        basis = own @ vectors
        self._precision = (basis / (choice.amplitude**2 * values + choice.noise**2)) @ basis.T
        targets = problem.targets / scale
        dual = self._precision @ targets
        labels = choice.amplitude**2 * dual
        self.coefficients = np.zeros(problem.gram.shape[0])
        self.coefficients[: problem.n_labels] = labels / scale
        self.coefficients[self.kernel.weak] = self.kernel.onto_weak(labels)
        explained = choice.amplitude**2 * self.kernel.of_labels @ dual + choice.noise**2 * dual
        unexplained = targets - explained
        self.shifts = np.linalg.lstsq(
            problem.composition / scale[:, None], unexplained, rcond=1e-9
        )[0]
        self._dual, self._scale = dual, scale

    def posterior_variance(self, rows: slice) -> np.ndarray:
        """Variances of Pδ for rows of the Gram matrix, in the square of their unit."""
        square = self.choice.amplitude**2
        cross = square * self.kernel.cross(rows)
        explained = np.einsum("ij,jk,ik->i", cross, self._precision, cross)
        return np.clip(square * self.kernel.variance(rows) - explained, 0.0, None)

    def mean(self, rows: slice) -> np.ndarray:
        """Pδ for rows of the Gram matrix."""
        return self.problem.gram[rows] @ self.coefficients

    @property
    def expected_force_error(self) -> float:
        """Root mean square error to expect of a force component, eV/Å."""
        return self._scale_of(self.posterior_variance(self.problem.probes))

    @property
    def prior_force_error(self) -> float:
        """That of the foundation model, as the prior has it, eV/Å."""
        variance = self.choice.amplitude**2 * self.kernel.variance(self.problem.probes)
        return self._scale_of(np.clip(variance, 0.0, None))

    @property
    def force_change(self) -> float:
        """Root mean square of a force component of the correction, eV/Å."""
        return self._scale_of(self.mean(self.problem.probes) ** 2)

    def _scale_of(self, squares: np.ndarray) -> float:
        return float(np.sqrt(np.mean(squares))) / self.problem.length

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Errors of each label, predicted from the others, and their standard deviations.

        Both (n_labels,) in the labels' units, divided as the targets are. NaN where the others say
        nothing of it, as of the only structure with an element.
        """
        diagonal = np.diag(self._precision)
        known = diagonal * self.choice.noise**2 > 1e-9
        diagonal = np.where(known, diagonal, np.nan)
        return self._dual / diagonal * self._scale, diagonal**-0.5 * self._scale


def solve(problem: Problem) -> Solution:
    """The solution that the evidence chooses."""
    return Solution(problem, Search(problem).best())
