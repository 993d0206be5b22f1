"""The posterior of the correction: candidates of the weights, averaged by their evidence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from mace_weak.tangent.evidence import Candidate, Choice, Problem

DECADES = (-2.0, 4.0)  # of λ
RATIOS = (0.0, 1.0, 2.0, 3.0)  # decades of the noise of forces over that of energies, 1/Å
MOST_CANDIDATES = 64  # weights that are tried
NEGLIGIBLE = 1e-3  # probability


class Solution:
    """The posterior of the correction, averaged over candidates by their evidence.

    ``coefficients`` (n_rows,) are those of all rows, in the order of the Gram matrix: the mean of δ
    is the sum of the rows with them. ``shifts`` (n_kinds,) are β in eV.
    """

    def __init__(self, problem: Problem, candidates: Sequence[Candidate]) -> None:
        evidence = np.array([own.log_evidence for own in candidates])
        self.problem = problem
        self.candidates = list(candidates)
        self.probability = np.exp(evidence - logsumexp(evidence))
        self.coefficients = self._mean([own.coefficients for own in self.candidates])
        self.shifts = self._mean([own.shifts for own in self.candidates])

    def _mean(self, values: Sequence[np.ndarray]) -> np.ndarray:
        return np.einsum("c,c...->...", self.probability, np.array(values))

    @property
    def choice(self) -> Choice:
        """Geometric means of the hyperparameters over the posterior."""
        own = [candidate.choice for candidate in self.candidates]

        def mean(values: Sequence[float]) -> float:
            return float(np.exp(self.probability @ np.log(values)))

        return Choice(
            noise=mean([choice.noise for choice in own]),
            amplitude=mean([choice.amplitude for choice in own]),
            weights={
                term: mean([choice.weights[term] for choice in own]) for term in self.problem.terms
            },
            force_noise=mean([choice.force_noise for choice in own]),
        )

    def mean(self, rows: slice) -> np.ndarray:
        """Pδ for rows of the Gram matrix."""
        return self.problem.gram[rows] @ self.coefficients

    def posterior_variance(self, rows: slice) -> np.ndarray:
        """Variances of Pδ for rows of the Gram matrix: within the candidates and between them."""
        within = self._mean([own.variance(rows) for own in self.candidates])
        means = [self.problem.gram[rows] @ own.coefficients for own in self.candidates]
        between = self._mean([(own - self.mean(rows)) ** 2 for own in means])
        return within + between

    @property
    def expected_force_error(self) -> float:
        """Root mean square error to expect of a force component, eV/Å."""
        return self._scale_of(self.posterior_variance(self.problem.probes))

    @property
    def prior_force_error(self) -> float:
        """That of the foundation model, as the prior has it, eV/Å."""
        variances = [own.moments.square * own.probe_variance for own in self.candidates]
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
        errors, spreads = zip(*(own.left_out() for own in self.candidates), strict=True)
        return self._mean(errors), self._mean(np.square(spreads)) ** 0.5


def candidate_weights(problem: Problem) -> list[tuple[dict[str, float], float]]:
    """Weights of the terms, and ratios of the noises, that are tried.

    Decades of each weight, so coarse that there are not too many.
    """
    ratios = RATIOS if problem.is_force.any() else (0.0,)
    n_terms = len(problem.terms)
    n_decades = int(DECADES[1] - DECADES[0]) + 1
    while n_terms and n_decades**n_terms * len(ratios) > MOST_CANDIDATES and n_decades > 2:
        n_decades -= 1
    axis = np.linspace(*DECADES, n_decades)
    return [
        ({term: 10.0**own for term, own in zip(problem.terms, place, strict=True)}, 10.0**ratio)
        for place in itertools.product(axis, repeat=n_terms)
        for ratio in ratios
    ]


def solve(problem: Problem) -> Solution:
    """The posterior for the labels of a problem."""
    kept: list[Candidate] = []
    for weights, ratio in candidate_weights(problem):
        kept.append(Candidate(problem, weights, ratio=ratio))
        best = max(own.log_evidence for own in kept)
        kept = [own for own in kept if own.log_evidence > best + np.log(NEGLIGIBLE)]
    return Solution(problem, kept)
