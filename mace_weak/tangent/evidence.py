"""The evidence of the labels under the weak prior, and the solution for given weights.

Labels y = Gδ + Tβ + ε: ``G`` are the rows of the labels, ``T`` the numbers of atoms of each kind,
β shifts of the atoms' energies with a flat prior, ε ~ N(0, σ²). All that is needed of the rows is
their Gram matrix: with the weak rows P scaled by w = √(λ/t), the prior's covariance of the labels
is a²K,

    K = K_gg − K_gp w (1 + w K_pp w)⁻¹ w K_pg,

and the restricted likelihood, β projected out by Nᵀ (NᵀT = 0), is that of Nᵀy under
NᵀKN a² + σ² (MacKay, Neural Comput. 4, 415 (1992); Immer et al., arXiv:2104.04975). For given
hyperparameters the mean is δ = Gᵀα − Pᵀ w (1 + w K_pp w)⁻¹ w K_pg α with
α = N (NᵀKN + σ²/a²)⁻¹ Nᵀy. Few labels leave the hyperparameters open, so the noise σ and the
amplitude a are integrated out, by the eigenvalues of NᵀKN. The weights λ are given here: terms
without a weight are left out of the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg
from scipy.special import logsumexp

from mace_weak.errors import WeakLossError

# Weak priors, log-normal: median and the factor of one standard deviation. They settle what few
# labels leave open, and cost little where there are many.
NOISE = (2e-3, 10.0)  # σ, eV for an atom, growing with √N
AMPLITUDE = (0.3, 3.0)  # of a force component of the correction, eV/Å
FORCE_NOISE = (0.1, 10.0)  # eV/Å, of force labels
NOISES = (1e-6, 1.0)  # eV for an atom; no label is more exact, and no float64 sum of them
AMPLITUDES = (1e-2, 10.0)  # eV/Å, of a force component of the correction
LEAST_FORCE_NOISE = 1e-4  # eV/Å
GRID = (60, 40)  # noises and amplitudes
ROUNDING = 1e-14  # of the largest variance


@dataclass(frozen=True)
class Problem:
    """Labels, and the Gram matrix of all rows that belong to them.

    ``gram`` (n_rows, n_rows) has first the ``n_labels`` rows of the labels, divided by the size of
    their noise (√N for the energy of N atoms), then the weak rows of each term, then the probes.
    ``targets`` (n_labels,) in eV and ``composition`` (n_labels, n_kinds) are divided too.
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

    def require_forces(self) -> None:
        """Check that the structures have forces, whose scale is that of the prior.

        Raises:
            WeakLossError: if none has.
        """
        if not np.any(np.diag(self.gram)[self.probes]):
            raise WeakLossError(
                "no structure has forces to learn, as in cells of one atom: add larger cells, "
                "which need no label"
            )


@dataclass(frozen=True)
class Choice:
    """Hyperparameters.

    ``noise`` σ in eV for an atom, ``amplitude`` a (no unit), ``weights`` λ of the terms that are
    included, ``force_noise`` in eV/Å (used only where forces are labels).
    """

    noise: float
    amplitude: float
    weights: dict[str, float]
    force_noise: float


class Kernel:
    """The prior's covariance for given weights λ of the terms included, in units of a²."""

    def __init__(
        self, problem: Problem, weights: dict[str, float], label_scale: np.ndarray
    ) -> None:
        self.problem = problem
        self.label_scale = label_scale
        gram = problem.gram
        spans = [problem.terms[term] for term in weights]
        self.weak = np.concatenate(
            [np.arange(gram.shape[0])[rows] for rows in spans] or [np.arange(0)]
        )
        roots = [
            np.full(rows.stop - rows.start, (weight / problem.scales[term]) ** 0.5)
            for rows, (term, weight) in zip(spans, weights.items(), strict=True)
        ]
        self.roots = np.concatenate(roots or [np.empty(0)])
        inner = self.roots[:, None] * gram[np.ix_(self.weak, self.weak)] * self.roots
        inner[np.diag_indices_from(inner)] += 1.0
        self.factor = linalg.cholesky(inner, lower=True) if len(inner) else inner

    def held(self, rows: np.ndarray | slice) -> np.ndarray:
        """What the weak terms take from rows: (n_weak, n), whose squares are the covariance."""
        cross = self.roots[:, None] * self.problem.gram[self.weak][:, rows]
        return linalg.solve_triangular(self.factor, cross, lower=True) if len(cross) else cross

    def scaled_by_prior(self) -> np.ndarray:
        """(1 + w K_pp w)^(−½) w, the coefficients (n_weak, n_weak) of the weak rows in ``held``."""
        scaled = np.diag(self.roots)
        return linalg.solve_triangular(self.factor, scaled, lower=True) if len(scaled) else scaled

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
        left = self.problem.projection
        values, vectors = np.linalg.eigh(left.T @ self.of_labels @ left)
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


@dataclass(frozen=True)
class Moments:
    """The posterior of noise and amplitude for given weights.

    ``filter`` (n_left,) is the mean of a²/(a²w + σ²) over it, for the eigenvalues w of NᵀKN,
    ``square`` that of a², ``noise_square`` that of σ², and ``reduction`` that of a⁴/(a²w + σ²).
    ``noise`` and ``amplitude`` are the most probable ones, ``log_evidence`` is the logarithm of
    their integral.
    """

    filter: np.ndarray
    square: float
    noise_square: float
    reduction: np.ndarray
    noise: float
    amplitude: float
    log_evidence: float


def moments(
    values: np.ndarray,
    squares: np.ndarray,
    *,
    noises: np.ndarray,
    amplitudes: np.ndarray,
    log_prior: np.ndarray,
) -> Moments:
    """Integrate over noise and amplitude, on a grid.

    ``values`` (n_left,) are the eigenvalues, ``squares`` those of the labels along their vectors,
    ``log_prior`` (n_noises, n_amplitudes) the priors.
    """
    variance = amplitudes[None, :, None] ** 2  # a²
    total = variance * values + noises[:, None, None] ** 2
    log_density = log_prior - 0.5 * np.sum(np.log(total) + squares / total, axis=-1)
    log_evidence = float(logsumexp(log_density))
    density = np.exp(log_density - log_evidence)[..., None]
    row, column = np.unravel_index(int(np.argmax(log_density)), log_density.shape)
    return Moments(
        filter=np.sum(density * variance / total, axis=(0, 1)),
        square=float(np.sum(density * variance)),
        noise_square=float(np.sum(density[..., 0] * noises[:, None] ** 2)),
        reduction=np.sum(density * variance**2 / total, axis=(0, 1)),
        noise=float(noises[row]),
        amplitude=float(amplitudes[column]),
        log_evidence=log_evidence,
    )


class Candidate:
    """The solution for given weights λ of the terms included, and a given ratio of the noises.

    ``log_prior`` is that of this choice among others, ``log_evidence`` includes it.
    """

    def __init__(
        self,
        problem: Problem,
        weights: dict[str, float],
        *,
        ratio: float = 1.0,
        log_prior: float = 0.0,
        fixed: Choice | None = None,
    ) -> None:
        self.problem, self.ratio, self.weights, self.fixed = problem, ratio, weights, fixed
        self.log_prior = log_prior
        self.scale = np.where(problem.is_force, ratio, 1.0)
        kernel = self.kernel()
        self.values, vectors = kernel.spectrum
        self.basis = problem.projection @ vectors
        self.along = self.basis.T @ (problem.targets / self.scale)
        self.probe_variance = np.clip(kernel.variance(problem.probes), 0.0, None)
        noises, amplitudes, prior = self._grid() if fixed is None else _point(fixed)
        self.moments = moments(
            self.values, self.along**2, noises=noises, amplitudes=amplitudes, log_prior=prior
        )
        likelihood = self.moments.log_evidence - float(np.sum(np.log(self.scale)))
        self.log_evidence = likelihood + log_prior
        self.coefficients = self._coefficients(kernel)
        self.shifts = self._shifts(kernel)

    def on(self, problem: Problem) -> Candidate:
        """The same candidate for a problem of other rows."""
        return Candidate(
            problem, self.weights, ratio=self.ratio, log_prior=self.log_prior, fixed=self.fixed
        )

    def kernel(self) -> Kernel:
        """Built anew: those of all candidates together would not fit in memory."""
        return Kernel(self.problem, self.weights, self.scale)

    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Noises, amplitudes and the logarithm of their prior."""
        unit = float(np.sqrt(np.mean(self.probe_variance))) / self.problem.length  # eV/Å, for a = 1
        noises, scales = np.geomspace(*NOISES, GRID[0]), np.geomspace(*AMPLITUDES, GRID[1])
        log_prior = log_normal(noises, NOISE)[:, None] + log_normal(scales, AMPLITUDE)
        if self.problem.is_force.any():
            force_noises = noises * self.ratio
            of_forces = log_normal(force_noises, FORCE_NOISE)
            of_forces[force_noises < LEAST_FORCE_NOISE] = -np.inf
            log_prior = log_prior + of_forces[:, None]
        return noises, scales / unit, log_prior

    @property
    def choice(self) -> Choice:
        """The most probable hyperparameters."""
        means = self.moments
        return Choice(means.noise, means.amplitude, self.weights, means.noise * self.ratio)

    def _coefficients(self, kernel: Kernel) -> np.ndarray:
        """Those of all rows (n_rows,) whose sum is the mean of δ."""
        problem = self.problem
        labels = self.basis @ (self.moments.filter * self.along)
        result = np.zeros(len(problem.gram))
        result[: problem.n_labels] = labels / self.scale
        result[kernel.weak] = kernel.onto_weak(labels)
        return result

    def _shifts(self, kernel: Kernel) -> np.ndarray:
        """β (n_kinds,) in eV, the smallest where several do: Tβ is what correction and noise leave.

        The mean of the noise, σ²/(a²w + σ²) of each label along the eigenvectors, is 1 − w·filter.
        """
        correction = kernel.of_labels @ (self.basis @ (self.moments.filter * self.along))
        noise = self.basis @ ((1.0 - self.values * self.moments.filter) * self.along)
        left = self.problem.targets / self.scale - correction - noise
        composition = self.problem.composition / self.scale[:, None]
        return np.linalg.lstsq(composition, left, rcond=1e-9)[0]

    def _precision(self, choice: Choice) -> np.ndarray:
        """N (NᵀKN a² + σ²)⁻¹ Nᵀ, of labels divided by their scale."""
        total = choice.amplitude**2 * self.values + choice.noise**2
        return (self.basis / total) @ self.basis.T

    def variance(self, rows: slice) -> np.ndarray:
        """Posterior variances of Pδ for rows of the Gram matrix."""
        kernel = self.kernel()
        cross = kernel.cross(rows) @ self.basis
        explained = cross**2 @ self.moments.reduction
        free = self.moments.square * kernel.variance(rows)
        return np.clip(free - explained, 0.0, None)

    def covariance(self, rows: np.ndarray) -> np.ndarray:
        """Posterior covariance (n_features, n_features) of δ, averaged over a and σ.

        ``rows`` (n_rows, n_features) are those of the Gram matrix. What the labels take is formed
        in the space of the features: its coefficients by the rows are as large as a⁴/σ², and would
        lose all digits where σ is small.
        """
        kernel = self.kernel()
        held = kernel.scaled_by_prior() @ rows[kernel.weak]
        labels = slice(self.problem.n_labels)
        free = rows[labels] - kernel.held(labels).T @ held
        explained = self.basis.T @ (free / self.scale[:, None])
        explained *= np.sqrt(self.moments.reduction)[:, None]
        prior = np.eye(rows.shape[1]) - held.T @ held
        return self.moments.square * prior - explained.T @ explained

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Errors and standard deviations of labels predicted from the others; see ``Solution``."""
        precision = self._precision(self.choice)
        diagonal = np.diag(precision)
        known = diagonal * self.moments.noise**2 > 1e-9
        diagonal = np.where(known, diagonal, np.nan)
        dual = precision @ (self.problem.targets / self.scale)
        return dual / diagonal * self.scale, diagonal**-0.5 * self.scale


def _point(choice: Choice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([choice.noise]), np.array([choice.amplitude]), np.zeros((1, 1))
