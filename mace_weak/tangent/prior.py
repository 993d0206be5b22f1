"""The weak residuals as a prior of the correction ΔE = E_t − E(θ₀).

The residuals are linear in the correction, and so in δ: each is a row p, and the prior

    δ ~ N(0, a² Λ⁻¹),   Λ = 1 + Σ_terms λ/t Σ_k p_k p_kᵀ

says that they are small. t is the mean square of a term's rows, so that λ has no unit. Residuals
are taken in pairs, to both sides of a structure, so that the terms share no information and the
work of the forces cancels in the even ones:

- ``taylor`` (PITC), the mean of the residuals at d and −d: the correction has no curvature;
- ``spatial`` (PISC), the same about a displaced structure;
- ``forces`` (order 0), half the difference of the energies at d and −d: it has no forces.

Rows, of the prior and of the labels, that would not fit in memory are sketched: each feature is
added, with a random sign, to one of fewer places (Charikar, Chen and Farach-Colton, Theor. Comput.
Sci. 312, 3 (2004)), which keeps inner products on the average, with a relative spread of some
√(2/places). What is solved with sketched rows is a tangent model too, whose parameters change
together in random groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mace_weak.displacements import random_displacements, seeded_generator
from mace_weak.errors import WeakLossError
from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.residuals import weak_residuals
from mace_weak.tangent.gradients import Features

TERMS = (TAYLOR, FORCES)
ALL_TERMS = (TAYLOR, SPATIAL, FORCES)
PLACES_PER_ROW = 10  # at least: then lengths in the space of the rows are kept within a third
NUMBER = 8  # bytes


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


@dataclass(frozen=True)
class Sketch:
    """Where each feature of a row goes, and with which sign: (n_active,) both."""

    places: Tensor
    signs: Tensor
    size: int

    @classmethod
    def of(cls, like: Tensor, *, size: int, seed: int) -> Sketch:
        """For rows as ``like`` (n_active,); those of a seed are the same on every machine."""
        stream = np.random.RandomState(seed)  # its stream never changes, by NumPy's promise
        places = torch.from_numpy(stream.randint(size, size=len(like)))
        signs = torch.from_numpy(2.0 * stream.randint(2, size=len(like)) - 1.0)
        return cls(places.to(like.device), signs.to(like), size)

    def __call__(self, rows: Tensor) -> Tensor:
        """Of rows (n_rows, n_active): (n_rows, size)."""
        result = rows.new_zeros(len(rows), self.size)
        return result.index_add_(1, self.places, rows * self.signs)

    def transposed(self, sketched: Tensor) -> Tensor:
        """The features (n_active,) whose product with any row is that of ``sketched`` (size,)."""
        return sketched[self.places] * self.signs


@dataclass(frozen=True)
class Rows:
    """All rows of a data set (n_rows, n_features), by a ``sketch`` if there is one."""

    values: Tensor
    sketch: Sketch | None

    @classmethod
    def of(
        cls,
        make: Callable[[int], Tensor],
        sizes: Sequence[int],
        like: Tensor,
        *,
        limit: float,
        seed: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Rows:
        """``make`` gives the rows (sizes[k], n_active) of the k-th structure; ``like`` is one row.

        ``limit`` is the memory in bytes that they may take.

        Raises:
            WeakLossError: if even a sketch would take more.
        """
        sketch = sketch_within(limit, sum(sizes), like, seed=seed)
        values = like.new_empty(sum(sizes), sketch.size if sketch else len(like))
        place = 0
        for number, size in enumerate(sizes):
            made = make(number)
            values[place : place + size] = sketch(made) if sketch else made
            place += size
            progress(1)
        return cls(values, sketch)

    def gram(self) -> Tensor:
        """All inner products (n_rows, n_rows), float64, on the CPU."""
        return (self.values @ self.values.T).cpu()

    def combined(self, weights: Tensor) -> Tensor:
        """The sum of all rows with ``weights`` (n_rows,): (n_active,)."""
        total = self.values.T @ weights.to(self.values)
        return self.sketch.transposed(total) if self.sketch else total


def sketch_within(limit: float, n_rows: int, like: Tensor, *, seed: int) -> Sketch | None:
    """The sketch of rows as ``like`` that fit into ``limit`` bytes; None if they do as they are.

    Raises:
        WeakLossError: if none does.
    """
    places = int(limit / NUMBER / max(1, n_rows))
    if places >= len(like):
        return None
    fewest = min(PLACES_PER_ROW * n_rows, len(like))
    if places < fewest:
        raise WeakLossError(
            f"the {n_rows} rows of the closed form need {NUMBER * n_rows * fewest / 1e9:.2g} GB, "
            f"and may take {limit / 1e9:.2g}: allow more memory, or take fewer labels"
        )
    return Sketch.of(like, size=places, seed=seed)
