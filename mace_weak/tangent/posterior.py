"""Error bars: what the labels leave open of the correction.

The posterior of δ is normal, for given hyperparameters, and its covariance is

    Σ = a² 1 − Rᵀ M R

with R the rows of the labels and of the weak prior. R has as many columns as the model has
parameters, so a sketch of the rows takes its place. The posterior is that of the sketched features,
and so a covariance too. For a structure with features g and composition c,

    Var E = hᵀΣh + σ²(N + cᵀ(TᵀT)⁻¹c),   h = g − GᵀT(TᵀT)⁻¹c,

since shifts of the atoms' energies, with a flat prior, follow from the labels (G and T are the rows
and compositions of the labels), and what the linear correction leaves is taken as noise σ. The
variance of a force component is that of −∂g/∂r. In this form "prediction rigidities" (Bigi et al.,
Mach. Learn.: Sci. Technol. 5, 045055 (2024), arXiv:2403.02251) have a prior of physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mace_weak.tangent.solution import Solution

SKETCH = 2048  # features of a sketch
NEGLIGIBLE = 1e-12  # of the prior's variance
OUTSIDE = 1e-6  # of a composition, that those of the labels do not determine


@dataclass(frozen=True)
class Posterior:
    """Σ = ``square`` 1 − Σ_k signs_k b_k b_kᵀ of sketched features, and what energies need beside.

    ``factors`` (n_factors, size) are the b_k, ``signs`` (n_factors,) are 1 or −1. ``centre``
    (n_kinds, size) is (TᵀT)⁻¹TᵀG, ``compositions`` (n_kinds, n_kinds) is TᵀT; ``noise`` is σ in eV
    for an atom, ``seed`` that of the sketch.
    """

    square: float
    factors: np.ndarray
    signs: np.ndarray
    centre: np.ndarray
    compositions: np.ndarray
    noise: float
    seed: int

    @classmethod
    def of(cls, solution: Solution, rows: np.ndarray, *, seed: int) -> Posterior:
        """That of a solution; ``rows`` (n_rows, size) are sketched, scaled and in its order."""
        problem = replace(solution.problem, gram=rows @ rows.T)
        own = [one.on(problem) for one in solution.candidates]
        coefficients = np.array([one.coefficients for one in own])
        apart = coefficients - solution.probability @ coefficients
        inner = -np.einsum("c,ci,cj->ij", solution.probability, apart, apart)
        for probability, candidate in zip(solution.probability, own, strict=True):
            inner += probability * candidate.reduction()
        square = float(solution.probability @ [one.moments.square for one in own])
        axes, along = np.linalg.qr(rows.T)
        values, vectors = np.linalg.eigh(along @ inner @ along.T)
        kept = np.abs(values) > NEGLIGIBLE * square
        factors = (axes @ vectors[:, kept]) * np.sqrt(np.abs(values[kept]))
        labels, composition = rows[: problem.n_labels], problem.composition
        compositions = composition.T @ composition
        centre = np.linalg.pinv(compositions) @ composition.T @ labels
        return cls(
            square, factors.T, np.sign(values[kept]), centre, compositions,
            solution.choice.noise, seed,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Features of the sketch."""
        return self.factors.shape[1]

    def variances(self, rows: np.ndarray) -> np.ndarray:
        """Variances (n_rows,) of xᵀδ for sketched rows x (n_rows, size)."""
        explained = self.signs @ np.square(self.factors @ rows.T)
        return np.clip(self.square * np.sum(rows**2, axis=1) - explained, 0.0, None)

    def energy_spreads(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Standard deviations (n_structures,) of total energies, eV.

        ``rows`` (n_structures, size) are the sketched features, ``counts`` (n_structures, n_kinds)
        the numbers of atoms of each kind. Infinite where the labels do not determine the energy of
        such a composition.
        """
        inverse = np.linalg.pinv(self.compositions)
        open_part = counts - counts @ inverse @ self.compositions
        size = counts.sum(axis=1)
        shifts = np.einsum("sk,kl,sl->s", counts, inverse, counts)
        variance = self.variances(rows - counts @ self.centre) + self.noise**2 * (size + shifts)
        outside = np.abs(open_part).max(axis=1) > OUTSIDE * size
        return np.where(outside, np.inf, np.sqrt(variance))

    def force_spreads(self, rows: np.ndarray) -> np.ndarray:
        """Standard deviations (n_rows,) of force components, eV/Å, for sketched rows −∂g/∂r."""
        return np.sqrt(self.variances(rows))

    def content(self) -> dict[str, Any]:
        """Arrays and numbers, for a file."""
        return {
            name: value.astype(np.float32) if name in ("factors", "centre") else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Posterior:
        """What ``content`` gave."""
        factors, signs, centre, compositions = (
            np.asarray(content[name], dtype=float)
            for name in ("factors", "signs", "centre", "compositions")
        )
        square, noise = float(content["square"]), float(content["noise"])
        return cls(square, factors, signs, centre, compositions, noise, int(content["seed"]))
