"""Which rows a tangent model is solved from: those of the labels, of the prior, and of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mace_weak.displacements import seeded_generator
from mace_weak.tangent.evidence import Problem
from mace_weak.tangent.gradients import Coordinates, Features, Model, force_rows
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.prior import TERMS, Directions
from mace_weak.tangent.solution import INCLUDED

# Directions of the weak prior: one for so many coordinates, within these numbers for a structure,
# and no more than so many rows in all, whose Gram matrix is decomposed in a second.
COORDINATES_PER_DIRECTION = 6
DIRECTIONS = (4, 32)
MOST_WEAK_ROWS = 2400
MOST_PROBES = 200


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the tangent model is solved.

    ``terms`` are those of the weak prior, ``included`` the prior probabilities of those that may be
    left out. ``length`` (Å) is that of its displacements, ``directions`` their number for each
    structure (None: by its atoms), ``probes`` how many more the forces are measured by. ``memory``
    in bytes bounds the rows that are held.
    """

    terms: Sequence[str] = TERMS
    included: Mapping[str, float] = field(default_factory=lambda: dict(INCLUDED))
    length: float = 0.05
    directions: int | None = None
    probes: float = 1.0
    seed: int = 1
    memory: float = 4e9


def directions_for(n_atoms: int) -> int:
    """How many directions of the weak prior suit a structure: they grow with its coordinates."""
    fewest, most = DIRECTIONS
    return min(most, max(fewest, round(3 * n_atoms / COORDINATES_PER_DIRECTION)))


def spread(shares: Sequence[float], keys: Sequence[int]) -> list[int]:
    """Whole numbers for shares, those of fractions by chance that the structures' keys settle."""
    chances = [
        float(torch.rand((), dtype=torch.float64, generator=seeded_generator(key, 2)))
        for key in keys
    ]
    return [int(share + chance) for share, chance in zip(shares, chances, strict=True)]


@dataclass(frozen=True)
class Plan:
    """Which rows each structure has, in order: energy, forces, weak terms, probes."""

    labels: Labels
    directions: Directions
    counts: Sequence[int]
    probes: Sequence[int]
    sizes: Sequence[int]
    keys: Sequence[int]

    @classmethod
    def of(cls, model: Model, labels: Labels, settings: Settings) -> Plan:
        directions = Directions(
            terms=tuple(settings.terms),
            length=settings.length,
            seed=settings.seed,
        )
        wanted = [settings.directions or directions_for(size) for size in model.sizes]
        rows = len(settings.terms) * sum(wanted)
        share = 1.0 if settings.directions else min(1.0, MOST_WEAK_ROWS / max(1, rows))
        counts = spread([share * count for count in wanted], model.keys)
        share = min(settings.probes, MOST_PROBES / len(labels))
        probes = spread([share] * len(labels), model.keys)
        return cls(labels, directions, counts, probes, model.sizes, model.keys)

    def n_rows(self, number: int) -> int:
        return len(self._kinds(number))

    def _kinds(self, number: int) -> list[int]:
        """The group of each row of a structure: 0 energy, 1 force, then the terms, then probes."""
        forces = self.labels.forces[number]
        terms = self.directions.terms
        return [
            *([0] if np.isfinite(self.labels.energies[number]) else []),
            *([1] * (0 if forces is None else forces.size)),
            *(2 + place for place in range(len(terms)) for _ in range(self.counts[number])),
            *([2 + len(terms)] * self.probes[number]),
        ]

    def kinds(self) -> np.ndarray:
        """The groups of all rows, structure by structure."""
        return np.concatenate([self._kinds(number) for number in range(len(self.labels))])

    def order(self) -> np.ndarray:
        """Places of the rows by their group, labels first."""
        kinds = self.kinds()
        return np.argsort(np.where(kinds == 1, 0, kinds), kind="stable")

    def rows_of(self, model: Model, coordinates: Coordinates, number: int) -> Tensor:
        surface = model.surface([number])
        features = Features(surface, coordinates)
        parts = []
        if np.isfinite(self.labels.energies[number]):
            parts.append(features.rest().energy)
        if self.labels.forces[number] is not None:
            parts.append(torch.stack(list(force_rows(surface, coordinates))))
        weak = self.directions.rows_of(
            features, self.keys[number], count=self.counts[number], probes=self.probes[number]
        )
        return torch.cat([*parts, weak])

    def _label_parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Targets, composition, whether they are forces, and sizes of the noise of the labels."""
        targets, composition, is_force, size = [], [], [], []
        nothing = np.zeros_like(self.labels.counts[0], dtype=float)
        for number, energy in enumerate(self.labels.energies):
            if np.isfinite(energy):
                targets.append(energy)
                composition.append(self.labels.counts[number].astype(float))
                is_force.append(False)
                size.append(self.sizes[number] ** 0.5)
            forces = self.labels.forces[number]
            for component in [] if forces is None else forces.ravel():
                targets.append(component)
                composition.append(nothing)
                is_force.append(True)
                size.append(1.0)
        return np.array(targets), np.array(composition), np.array(is_force), np.array(size)

    def problem(self, gram: np.ndarray) -> Problem:
        """The problem of the evidence; ``gram`` is in the order of ``order``."""
        targets, composition, is_force, size = self._label_parts()
        kinds = np.sort(np.where(self.kinds() == 1, 0, self.kinds()))
        edges = np.searchsorted(kinds, np.arange(1, kinds.max() + 2))
        spans = [
            slice(int(edges[place]), int(edges[place + 1])) for place in range(1, len(edges) - 1)
        ]
        return Problem(
            gram=self.scaled(self.scaled(gram).T),
            targets=targets / size,
            composition=composition / size[:, None],
            is_force=is_force,
            terms=dict(zip(self.directions.terms, spans, strict=False)),
            probes=spans[-1],
            length=self.directions.length,
        )

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Rows or their coefficients (n_rows, …) in the order of ``order``, labels' by the noise.

        What is divided so in the rows of a problem turns its coefficients into those of the rows as
        they were made.
        """
        _, _, _, size = self._label_parts()
        result = rows.copy()
        result[: len(size)] = (result[: len(size)].T / size).T
        return result
