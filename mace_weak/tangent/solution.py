"""The posterior of the correction: its mean, averaged over weights by the evidence, and its spread.

The correction is smooth in any case, but need not be without forces: the term of order 0 is
included with probability one half (a spike and a slab; Mitchell and Beauchamp, J. Am. Stat. Assoc.
83, 1023 (1988)). Few labels could not turn it off by its weight, as its precision along what all of
its rows share grows with their number.

For given hyperparameters the posterior of δ is normal, and its covariance is

    Σ = a² (1 − WᵀW) − UᵀU

with as many rows of W as the weak prior has and as many of U as there are labels. They have as many
columns as the model has parameters, so a sketch of the rows takes their place. The posterior is
that of the sketched features, and so a covariance too. For a structure with features g and
composition c,

    Var E = hᵀΣh + σ²(N + cᵀ(TᵀT)⁻¹c),   h = g − GᵀT(TᵀT)⁻¹c,

since shifts of the atoms' energies, with a flat prior, follow from the labels (G and T are the rows
and compositions of the labels), and what the linear correction leaves is taken as noise σ. The
variance of a force component is that of −∂g/∂r. In this form "prediction rigidities" (Bigi et al.,
Mach. Learn.: Sci. Technol. 5, 045055 (2024), arXiv:2403.02251) have a prior of physics.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from mace_weak.losses import FORCES
from mace_weak.tangent.evidence import Candidate, Choice, Problem, log_normal

INCLUDED: Mapping[str, float] = {FORCES: 0.5}  # prior probability of what may be left out
WEIGHT = (1.0, 100.0)  # λ of a term that is included: log-normal, as the priors of the evidence
DECADES = (-2.0, 4.0)  # of λ
RATIOS = (0.0, 1.0, 2.0, 3.0)  # decades of the noise of forces over that of energies, 1/Å
MOST_CANDIDATES = 80  # weights that are tried
UNLIKELY = 1e-3  # probability
SKETCH = 2048  # features of a sketch
OUTSIDE = 1e-6  # of a composition, that those of the labels do not determine


class Solution:
    """The posterior of the correction, averaged over candidates by their evidence.

    ``coefficients`` (n_rows,) are those of all rows, in the order of the Gram matrix: the mean of δ
    is the sum of the rows with them. ``shifts`` (n_kinds,) are β in eV.
    """

    def __init__(self, problem: Problem, candidates: Sequence[Candidate]) -> None:
        evidence = np.array([candidate.log_evidence for candidate in candidates])
        self.problem = problem
        self.candidates = list(candidates)
        self.probability = np.exp(evidence - logsumexp(evidence))
        self.coefficients = self._mean([candidate.coefficients for candidate in self.candidates])
        self.shifts = self._mean([candidate.shifts for candidate in self.candidates])

    def _mean(self, values: Sequence[np.ndarray]) -> np.ndarray:
        return np.einsum("c,c...->...", self.probability, np.array(values))

    @property
    def choice(self) -> Choice:
        """Geometric means of the hyperparameters over the posterior.

        The weight of a term is that over the candidates that include it, if there are any.
        """
        choices = [candidate.choice for candidate in self.candidates]

        def mean(values: Sequence[float], probability: np.ndarray = self.probability) -> float:
            return float(np.exp(np.average(np.log(values), weights=probability)))

        def weight(term: str) -> float:
            places = [place for place, one in enumerate(choices) if term in one.weights]
            weights = [choices[place].weights[term] for place in places]
            return mean(weights, self.probability[places])

        return Choice(
            noise=mean([choice.noise for choice in choices]),
            amplitude=mean([choice.amplitude for choice in choices]),
            weights={term: weight(term) for term, share in self.inclusion.items() if share},
            force_noise=mean([choice.force_noise for choice in choices]),
        )

    @property
    def noise(self) -> float:
        """σ, the root of its mean square over the posterior, eV for an atom."""
        squares = [one.moments.noise_square for one in self.candidates]
        return float(self.probability @ squares) ** 0.5

    @property
    def inclusion(self) -> dict[str, float]:
        """Posterior probability that the prior includes each weak term."""
        return {
            term: float(self.probability @ [term in one.weights for one in self.candidates])
            for term in self.problem.terms
        }

    def mean(self, rows: slice) -> np.ndarray:
        """Pδ for rows of the Gram matrix."""
        return self.problem.gram[rows] @ self.coefficients

    def posterior_variance(self, rows: slice) -> np.ndarray:
        """Variances of Pδ for rows of the Gram matrix: within the candidates and between them."""
        within = self._mean([candidate.variance(rows) for candidate in self.candidates])
        means = [self.problem.gram[rows] @ candidate.coefficients for candidate in self.candidates]
        between = self._mean([(mean - self.mean(rows)) ** 2 for mean in means])
        return within + between

    @property
    def expected_force_error(self) -> float:
        """Root mean square error to expect of a force component, eV/Å."""
        return self._scale_of(self.posterior_variance(self.problem.probes))

    @property
    def prior_force_error(self) -> float:
        """That of the foundation model, as the prior has it, eV/Å."""
        variances = [
            candidate.moments.square * candidate.probe_variance for candidate in self.candidates
        ]
        return self._scale_of(self._mean(variances))

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
        errors, spreads = zip(*(candidate.left_out() for candidate in self.candidates), strict=True)
        return self._mean(errors), self._mean(np.square(spreads)) ** 0.5


@dataclass(frozen=True)
class Trial:
    """Weights λ of the terms included and a ratio of the noises, with their prior."""

    weights: dict[str, float]
    ratio: float
    log_prior: float


def trials(problem: Problem, included: Mapping[str, float] = INCLUDED) -> list[Trial]:
    """What is tried: decades of each weight, so coarse that they are not too many, or none.

    ``included`` are the prior probabilities of terms that may be left out.
    """
    ratios = RATIOS if problem.is_force.any() else (0.0,)
    for n_decades in range(int(DECADES[1] - DECADES[0]) + 1, 1, -1):
        axes = [_weights_of(included.get(term, 1.0), n_decades) for term in problem.terms]
        if math.prod(map(len, axes)) * len(ratios) <= MOST_CANDIDATES:
            break
    return [
        Trial(
            {
                term: weight
                for term, (weight, _) in zip(problem.terms, place, strict=True)
                if weight is not None
            },
            10.0**ratio,
            sum(math.log(chance) for _, chance in place),
        )
        for place in itertools.product(*axes)
        for ratio in ratios
    ]


def _weights_of(included: float, n_decades: int) -> list[tuple[float | None, float]]:
    """Weights of a term, None for a term that is left out, and their prior probabilities."""
    weights = np.logspace(*DECADES, n_decades)
    slab = log_normal(weights, WEIGHT)
    chances = included * np.exp(slab - logsumexp(slab))
    both = [(None, 1.0 - included), *zip(weights.tolist(), chances.tolist(), strict=True)]
    return [one for one in both if one[1] > 0]


def solve(problem: Problem, *, included: Mapping[str, float] = INCLUDED) -> Solution:
    """The posterior for the labels of a problem.

    ``included`` are the prior probabilities of weak terms that may be left out.
    """
    kept: list[Candidate] = []
    for one in trials(problem, included):
        kept.append(Candidate(problem, one.weights, ratio=one.ratio, log_prior=one.log_prior))
        best = max(candidate.log_evidence for candidate in kept)
        kept = [candidate for candidate in kept if candidate.log_evidence > best + np.log(UNLIKELY)]
    return Solution(problem, kept)


def inverse(compositions: np.ndarray) -> np.ndarray:
    """The pseudoinverse of TᵀT (n_kinds, n_kinds), which one composition gives the rank 1.

    By default numpy would take the rounding of many equal rows for a second one.
    """
    return np.linalg.pinv(compositions, rcond=1e-9, hermitian=True)


@dataclass(frozen=True)
class Posterior:
    """Σ = B Bᵀ of sketched features, and what energies need beside.

    ``root`` (size, n_axes) is B. ``centre`` (n_kinds, size) is (TᵀT)⁻¹TᵀG, ``compositions``
    (n_kinds, n_kinds) is TᵀT; ``noise`` is σ in eV for an atom, the root of its mean square.
    ``square`` is a², the variance of parameters that no structure of the training depends on;
    ``seed`` is that of the sketch.
    """

    root: np.ndarray
    centre: np.ndarray
    compositions: np.ndarray
    noise: float
    square: float
    seed: int

    @classmethod
    def of(cls, solution: Solution, rows: np.ndarray, *, seed: int) -> Posterior:
        """That of a solution; ``rows`` (n_rows, size) are sketched, scaled and in its order.

        The covariance differs from a² 1 in the space of the rows alone, whose axes come first.
        """
        problem = replace(solution.problem, gram=rows @ rows.T)
        candidates = [one.on(problem) for one in solution.candidates]
        axes, along = np.linalg.qr(rows.T, mode="complete")
        n_axes = min(rows.shape)
        within = along[:n_axes].T
        changes = np.array([one.coefficients for one in candidates]) @ within
        apart = changes - solution.probability @ changes
        covariance = (apart.T * solution.probability) @ apart
        for probability, candidate in zip(solution.probability, candidates, strict=True):
            covariance += probability * candidate.covariance(within)
        values, vectors = np.linalg.eigh(covariance)
        kept = values > 0
        labels, composition = rows[: problem.n_labels], problem.composition
        compositions = composition.T @ composition
        centre = inverse(compositions) @ composition.T @ labels
        square = float(solution.probability @ [one.moments.square for one in candidates])
        of_rows = axes[:, :n_axes] @ (vectors[:, kept] * np.sqrt(values[kept]))
        root = np.hstack([of_rows, np.sqrt(square) * axes[:, n_axes:]])
        return cls(root, centre, compositions, solution.noise, square, seed)

    @property
    def size(self) -> int:
        """Features of the sketch."""
        return self.root.shape[0]

    def variances(self, rows: np.ndarray) -> np.ndarray:
        """Variances (n_rows,) of xᵀδ for sketched rows x (n_rows, size)."""
        return np.sum((rows @ self.root) ** 2, axis=1)

    def energy_spreads(
        self, rows: np.ndarray, counts: np.ndarray, *, unseen: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Standard deviations (n_structures,) of total energies, eV.

        ``rows`` (n_structures, size) are the sketched features, ``counts`` (n_structures, n_kinds)
        the numbers of atoms of each kind. Infinite where the labels do not determine the energy of
        such a composition. ``unseen`` (n_structures,) are the squares of features that no structure
        of the training has.
        """
        inverted = inverse(self.compositions)
        open_part = counts - counts @ inverted @ self.compositions
        size = counts.sum(axis=1)
        shifts = np.einsum("sk,kl,sl->s", counts, inverted, counts)
        variance = self.variances(rows - counts @ self.centre) + self.noise**2 * (size + shifts)
        variance += self.square * unseen
        outside = np.abs(open_part).max(axis=1) > OUTSIDE * size
        return np.where(outside, np.inf, np.sqrt(variance))

    def force_spreads(self, rows: np.ndarray, *, unseen: np.ndarray | float = 0.0) -> np.ndarray:
        """Standard deviations (n_rows,) of force components, eV/Å, for sketched rows −∂g/∂r.

        ``unseen`` (n_rows,) as in ``energy_spreads``.
        """
        return np.sqrt(self.variances(rows) + self.square * unseen)

    def content(self) -> dict[str, Any]:
        """Arrays and numbers, for a file."""
        return {
            name: value.astype(np.float32) if name in ("root", "centre") else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Posterior:
        """What ``content`` gave."""
        root, centre, compositions = (
            np.asarray(content[name], dtype=float) for name in ("root", "centre", "compositions")
        )
        noise, square = float(content["noise"]), float(content["square"])
        return cls(root, centre, compositions, noise, square, int(content["seed"]))
