"""The weak residuals as a prior of the correction ΔE = E_t − E(θ₀).

The residuals are linear in the correction, and so in δ: each is a row p, and the prior

    δ ~ N(0, a² Λ⁻¹),   Λ = 1 + Σ_terms λ/t Σ_k p_k p_kᵀ

says that they are small. t is the mean square of a term's rows, so that λ has no unit. Residuals
are taken in pairs, to both sides of a structure, so that the terms share no information and the
work of the forces cancels in the even ones:

- ``taylor`` (PITC), the mean of the residuals at d and −d: the correction has no curvature;
- ``spatial`` (PISC), the same about a displaced structure;
- ``forces`` (order 0), half the difference of the energies at d and −d: it has no forces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mace_weak.displacements import random_displacements, seeded_generator
from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.residuals import weak_residuals
from mace_weak.tangent.gradients import Features

TERMS = (TAYLOR, FORCES)
ALL_TERMS = (TAYLOR, SPATIAL, FORCES)


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Random displacements of the prior, of root mean square length ``length`` (Å) for an atom."""

    terms: Sequence[str]
    length: float
    seed: int

    def rows_of(self, features: Features, key: int, *, count: int, probes: int) -> Tensor:
        """Rows of a structure, for displacements seeded by ``key``: (n_rows, n_active).

        There are ``count`` displacements, and ``probes`` more that the prior does not use: its
        forces are measured by them. First come the rows of the first term, then those of the next,
        then the probes. All are divided by √N, to mean the same for structures of any size.
        """
        n_atoms = len(features.structure)
        drawn = random_displacements(
            2 * count + probes,
            n_atoms,
            length=self.length,
            generator=seeded_generator(self.seed, key, 0),
        ).to(features.coordinates.scale)
        along, starts, others = drawn[:count], drawn[count : 2 * count], drawn[2 * count :]
        rows: list[Tensor] = []
        for term in self.terms:
            if term == TAYLOR:
                rows += [curvature(features, d) for d in along]
            elif term == SPATIAL:
                rows += [
                    curvature_at(features, d, start) for d, start in zip(along, starts, strict=True)
                ]
            else:
                rows += [work_along(features, d) for d in along]
        rows += [work_along(features, d) for d in others]
        return torch.stack(rows) / n_atoms**0.5 if rows else features.coordinates.nothing()


def curvature(features: Features, d: Tensor) -> Tensor:
    """½[E(S+d) + E(S−d)] − E(S): the mean of the Taylor residuals at d and −d (n_atoms, 3), Å."""
    sides = [
        weak_residuals(features, step.unsqueeze(0), (TAYLOR,), order=0)[TAYLOR][0]
        for step in (d, -d)
    ]
    return torch.stack(sides).mean(dim=0)


def curvature_at(features: Features, d: Tensor, start: Tensor) -> Tensor:
    """The same about S+d′: the mean of the spatial residuals from ``start`` d′ to d and 2d′−d."""
    sides = [
        weak_residuals(features, torch.stack([end, start]), (SPATIAL,), order=0)[SPATIAL][0]
        for end in (d, 2 * start - d)
    ]
    return torch.stack(sides).mean(dim=0)


def work_along(features: Features, d: Tensor) -> Tensor:
    """½[E(S+d) − E(S−d)], the work against the forces: half the spatial residual of order 0."""
    both = torch.stack([d, -d])
    return weak_residuals(features, both, (SPATIAL,), order=0)[SPATIAL][0] / 2
