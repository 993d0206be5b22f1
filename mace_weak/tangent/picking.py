"""Which structures to label, so that energies settle the forces.

Before any label, the tangent model has the prior δ ~ N(0, a²): energies of structures are known to
each other by the inner products of their features, and so are their forces. An energy of the
structure i, with noise, leaves of the variance of a quantity x

    Var x − Cov(x, E_i)² / (Var E_i + σ²).

The structures are chosen one by one, each for the least variance that is left, on the average, of
forces of the whole pool along random directions. This is A-optimal design (Fedorov, *Theory of
Optimal Experiments*, 1972; for potentials Barzdajn and Race, arXiv:2405.08636) for the forces, in
the features of the tangent model. Features are sketched, and what shifts of the atoms' energies
explain is taken out of them. The shifts have to be determined too: until they are, only structures
whose composition is not a combination of those before are chosen.

The noise is what the energies have that is not linear in the parameters. It grows with the distance
from what the foundation model knows, so it is taken as a share of Var E_i. With the same noise for
all, the most distorted structures would be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mace_weak.displacements import random_displacements, seeded_generator
from mace_weak.tangent.gradients import Coordinates, Features, Model
from mace_weak.tangent.prior import Sketch, work_along

SKETCH = 1024  # features
NOISE = 0.5  # variance, of the variance of the same energy
LEAST = 1e-3  # of the mean variance, that an energy is taken to have
ROUNDING = 1e-12  # of the mean variance before the shifts explain a part of it
INDEPENDENT = 1e-6  # of a composition, that others do not combine to
LENGTH = 0.05  # Å, of the displacements along which forces are measured

Watch = Callable[[Iterable[int], str], Iterable[int]]


@dataclass(frozen=True)
class Gradients:
    """Sketched gradients of a part of the structures.

    ``energies`` (n_structures, size) are those of the energies, divided by √N; ``forces``
    (n_probes, size) those of forces along random directions of some of the structures.
    """

    energies: np.ndarray
    forces: np.ndarray

    @classmethod
    def of(cls, model: Model, *, probed: Collection[int], seed: int, watch: Watch) -> Gradients:
        """Those of the structures of ``model``, with forces of the ``probed`` ones.

        Each structure takes a gradient by the parameters, and a probed one two more. They have a
        place for every parameter, so that those of different parts belong together.
        """
        coordinates = Coordinates.of(model.parameters)
        sketch = Sketch.of(coordinates.scale, size=SKETCH, seed=seed)
        energies, forces = [np.empty((0, SKETCH))], [np.empty((0, SKETCH))]
        for number in watch(range(len(model.sizes)), "gradients"):
            size = model.sizes[number]
            features = Features(model.surface([number]), coordinates)
            energies.append(sketch(features.rest().energy).cpu().numpy() / size**0.5)
            if number in probed:
                generator = seeded_generator(seed, model.keys[number], 0)
                (along,) = random_displacements(1, size, length=LENGTH, generator=generator)
                row = work_along(features, along.to(coordinates.scale)).unsqueeze(0)
                forces.append(sketch(row).cpu().numpy() / (LENGTH * size**0.5))
        return cls(np.concatenate(energies), np.concatenate(forces))


@dataclass(frozen=True)
class PoolFeatures:
    """Those of all structures, without what shifts of the atoms' energies explain.

    ``energies`` (n_structures, size) and ``forces`` (n_probes, size) are as in ``Gradients``;
    ``counts`` (n_structures, n_kinds) are the numbers of atoms of each kind. Below ``rounding`` the
    variance of an energy is none.
    """

    energies: np.ndarray
    forces: np.ndarray
    counts: np.ndarray
    rounding: float = 0.0

    @classmethod
    def of(cls, parts: Sequence[Gradients], counts: np.ndarray) -> PoolFeatures:
        composition = counts / np.sqrt(counts.sum(axis=1, keepdims=True))
        whole = np.concatenate([part.energies for part in parts])
        rounding = ROUNDING * float(np.mean(np.sum(whole**2, axis=1)))
        forces = np.concatenate([part.forces for part in parts])
        return cls(_without(composition, whole), forces, counts, rounding)

    @property
    def variances(self) -> np.ndarray:
        """Of the energies (n_structures,), by the prior."""
        return np.sum(self.energies**2, axis=1)

    @property
    def noise(self) -> np.ndarray:
        """Variances of the energies' noise (n_structures,)."""
        variances = self.variances
        return NOISE * np.maximum(variances, max(LEAST * np.mean(variances), self.rounding))

    def only(self, numbers: Sequence[int]) -> PoolFeatures:
        """The same forces, and the energies of some structures."""
        chosen = list(numbers)
        return replace(self, energies=self.energies[chosen], counts=self.counts[chosen])


def _without(composition: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows without what is linear in the composition."""
    return rows - composition @ np.linalg.lstsq(composition, rows, rcond=1e-9)[0]


@dataclass(frozen=True)
class Picked:
    """Numbers (n,) of structures in the order of the choice, and what they leave of the forces.

    ``left`` (n + 1,) is the root mean square of the forces that the prior expects to be left open
    after each, over that without labels: an expected force error, relative to the foundation's.
    """

    numbers: list[int]
    left: list[float]


def pick(
    features: PoolFeatures,
    count: int,
    *,
    known: Sequence[int] = (),
    allowed: np.ndarray | None = None,
    order: Sequence[int] | None = None,
    watch: Watch = lambda steps, _: steps,
) -> Picked:
    """``count`` structures, given that those of ``known`` have labels.

    ``allowed`` (n_structures,) is true for those that may be chosen. With an ``order`` these are
    taken instead, to compare.
    """
    state = _Conditioned(features)
    for number in known:
        state.learn(number)
    free = np.ones(len(features.energies), dtype=bool) if allowed is None else allowed.copy()
    free[list(known)] = False
    numbers: list[int] = []
    left = [state.left]
    for place in watch(range(count), "choosing"):
        best = order[place] if order is not None else state.best(free)
        state.learn(best)
        free[best] = False
        numbers.append(best)
        left.append(state.left)
    return Picked(numbers, left)


class _Conditioned:
    """Covariances of energies and forces, given the energies that are learned.

    Of all energies with those learned no full matrix is kept: a learned energy takes a rank from
    the prior, whose factors are.
    """

    def __init__(self, features: PoolFeatures) -> None:
        self.features = features
        self.variances = features.variances
        self.noise = features.noise
        self.cross = features.forces @ features.energies.T  # (n_probes, n_structures)
        self.forces = np.sum(features.forces**2, axis=1)
        self.before = float(np.mean(self.forces))
        self.factors: list[np.ndarray] = []  # each (n_structures,)
        # of each composition what those that are learned do not combine to
        self.compositions = features.counts / np.linalg.norm(features.counts, axis=1, keepdims=True)

    @property
    def left(self) -> float:
        """Root of the share of the forces' variance."""
        return float(np.sqrt(np.mean(np.clip(self.forces, 0.0, None)) / self.before))

    def best(self, free: np.ndarray) -> int:
        """The energy that takes most of the variance, of a new composition while there are such."""
        explained = np.einsum("pn,pn->n", self.cross, self.cross)
        gains = explained / (np.clip(self.variances, 0.0, None) + self.noise)
        independent = free & (np.linalg.norm(self.compositions, axis=1) > INDEPENDENT)
        among = independent if independent.any() else free
        return int(np.argmax(np.where(among, gains, -np.inf)))

    def learn(self, number: int) -> None:
        """Condition on an energy."""
        covariances = self.features.energies @ self.features.energies[number]
        for factor in self.factors:
            covariances -= factor * factor[number]
        root = np.sqrt(max(float(covariances[number]), 0.0) + self.noise[number])
        factor, along = covariances / root, self.cross[:, number] / root
        self.factors.append(factor)
        self.cross -= np.outer(along, factor)
        self.variances -= factor**2
        self.forces -= along**2
        self._learn_composition(number)

    def _learn_composition(self, number: int) -> None:
        """Take out of all compositions what is along that of a structure."""
        own = self.compositions[number]
        size = float(np.linalg.norm(own))
        if size > INDEPENDENT:
            self.compositions -= np.outer(self.compositions @ own, own) / size**2
