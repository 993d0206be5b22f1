"""One pass over a file of structures: what the checks need, in little memory.

Among it are fingerprints, by which equal and close structures are found.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from mace_weak.command.output import progress
from mace_weak.misread import Problem
from mace_weak.structures import (
    STATE,
    Keys,
    bare,
    finite,
    has_others,
    is_alone,
    is_isolated_atom,
    naming,
    neighbours,
    plain_state_of,
    read_labelled,
    spelled_as_by_mace,
    unread,
)

NEUTRAL = {"total_charge": 0, "total_spin": 1}  # as MACE takes structures that do not say
SAMPLE = 1000  # structures that are kept whole
SHELL = 5.0  # Å, pairs of a periodic structure that count
NEIGHBOURS = 6  # of them for each atom
LONGEST = 256  # distances in a fingerprint, evenly out of all


class Pairs(NamedTuple):
    """Pairs of atoms (n_pairs,), each once, and their distances in Å."""

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Labelled:
    """A structure of the file by its number, and its labels that are finite."""

    number: int
    atoms: Atoms
    labels: Mapping[str, np.ndarray]

    @property
    def bound(self) -> bool:
        """Whether there are bonds, so that its energy is not that of an atom alone."""
        return not is_alone(self.atoms)


class Kind(NamedTuple):
    """What structures have in common that may be copies of each other.

    ``state`` are charge, spin and the like, by name.
    """

    formula: str
    periodic: bool
    state: str

    @classmethod
    def of(cls, atoms: Atoms) -> Kind:
        """That of a structure."""
        state = json.dumps(plain_state_of(atoms))
        return cls(atoms.get_chemical_formula(), any(atoms.pbc), state)


@dataclass
class Group:
    """Structures of one kind: their numbers in the file and their fingerprints."""

    numbers: list[int] = field(default_factory=list)
    fingerprints: list[np.ndarray] = field(default_factory=list)


@dataclass
class Survey:
    """What a file holds.

    For each structure there are ``energies`` (eV, NaN if absent), ``sizes`` (atoms),
    ``largest_forces`` (eV/Å), ``shortest`` (the shortest distance, Å) and ``nearest_neighbours``
    (the largest distance of an atom to its nearest neighbour, Å). ``labels`` counts each label,
    ``bad`` has the numbers of the structures in which it is NaN or infinite. ``isolated_atoms``
    are energies (eV) by element, ``misspelt`` counts those that MACE does not recognise,
    ``unmarked`` are the numbers of atoms alone that are not called isolated. ``switched_off``
    counts the labels of weight zero, which count as absent, ``weighted`` are the numbers of the
    structures with a label of another weight than 0 and 1. ``misplaced`` are those of the
    structures with forces in the comment line, ``unread`` of those that MACE misreads, by the
    problem, and ``others`` of those in which ASE's own labels differ from those under the keys.
    ``sample`` are at most a thousand structures at random, each with the next one in the file.
    """

    path: Path
    elements: set[str] = field(default_factory=set)
    labels: Counter[str] = field(default_factory=Counter)
    bad: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    groups: dict[Kind, Group] = field(default_factory=lambda: defaultdict(Group))
    sizes: list[int] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    largest_forces: list[float] = field(default_factory=list)
    shortest: list[float] = field(default_factory=list)
    nearest_neighbours: list[float] = field(default_factory=list)
    isolated_atoms: dict[str, float | None] = field(default_factory=dict)
    misspelt: int = 0
    unmarked: list[int] = field(default_factory=list)
    switched_off: Counter[str] = field(default_factory=Counter)
    weighted: list[int] = field(default_factory=list)
    misplaced: list[int] = field(default_factory=list)
    unread: dict[Problem, list[int]] = field(default_factory=lambda: defaultdict(list))
    others: list[int] = field(default_factory=list)
    sample: list[tuple[Labelled, Labelled | None]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.sizes)

    @property
    def coordinates(self) -> int:
        """Those of the atoms, which structures of one formula have in common."""
        return sum(3 * self.sizes[group.numbers[0]] for group in self.groups.values())

    @property
    def states(self) -> set[str]:
        """Charge, spin and the like that differ between structures, by name."""
        found = [
            {**NEUTRAL, **json.loads(kind.state)}
            for kind, group in self.groups.items()
            if self.sizes[group.numbers[0]] > 1
        ]
        values = {
            name: {str(np.array(state.get(name, np.nan), dtype=float)) for state in found}
            for name in STATE
        }
        return {name for name, different in values.items() if len(different) > 1}

    @property
    def structures(self) -> list[Labelled]:
        return [first for first, _ in self.sample]

    @property
    def labelled(self) -> list[Labelled]:
        """Those of the sample that have an energy."""
        return [one for one in self.structures if "energy" in one.labels]

    @property
    def steps(self) -> Iterator[tuple[Labelled, Labelled]]:
        """Pairs of structures that follow each other in the file."""
        return ((first, second) for first, second in self.sample if second is not None)

    def add(self, atoms: Atoms, labels: Mapping[str, np.ndarray]) -> None:
        """Take in the next structure of the file."""
        pairs = pairs_of(atoms)
        group = self.groups[Kind.of(atoms)]
        group.numbers.append(self.count)
        group.fingerprints.append(fingerprint(atoms, pairs))
        self._add_labels(atoms, labels)
        shortest, farthest = neighbour_distances(len(atoms), pairs)
        self.shortest.append(shortest)
        self.nearest_neighbours.append(farthest)
        self.elements.update(atoms.get_chemical_symbols())
        self.sizes.append(len(atoms))

    def _add_labels(self, atoms: Atoms, labels: Mapping[str, np.ndarray]) -> None:
        for name, value in labels.items():
            self.labels[name] += 1
            if not np.all(np.isfinite(value)):
                self.bad[name].append(self.count)
        energy = float(labels.get("energy", np.nan))
        if is_isolated_atom(atoms):
            known = energy if np.isfinite(energy) else None
            self.isolated_atoms[atoms.get_chemical_symbols()[0]] = known
            self.misspelt += not spelled_as_by_mace(atoms)
        elif is_alone(atoms):
            self.unmarked.append(self.count)
        self.energies.append(energy)
        forces = labels.get("forces", np.full((1, 3), np.nan))
        self.largest_forces.append(float(np.linalg.norm(forces, axis=1).max()))


def neighbour_distances(n_atoms: int, pairs: Pairs) -> tuple[float, float]:
    """The shortest distance, and the largest of an atom to its nearest neighbour, Å."""
    if n_atoms == 1 and not len(pairs.distances):
        return np.inf, 0.0
    nearest_one = np.full(n_atoms, np.inf)
    np.minimum.at(nearest_one, pairs.first, pairs.distances)
    np.minimum.at(nearest_one, pairs.second, pairs.distances)
    return float(nearest_one.min()), float(nearest_one.max())


def survey(path: Path, keys: Keys) -> Survey:
    """Read a file once.

    Raises:
        WeakLossError: if it is missing, empty or cannot be read, or a structure or label is
            invalid.
    """
    found = Survey(path)
    draw = random.Random(0)
    previous: int | None = None  # place in the sample of the structure before this one
    for place, atoms, labels in progress(read_labelled(path, keys), f"reading {path.name}"):
        if keys.forces in atoms.info:
            found.misplaced.append(found.count)
        for problem in unread(atoms, keys):
            found.unread[problem].append(found.count)
        if has_others(atoms, keys):
            found.others.append(found.count)
        weights = keys.weights(atoms)
        found.switched_off.update(name for name, weight in weights.items() if not weight > 0)
        if any(weight not in (0, 1) for weight in weights.values()):
            found.weighted.append(found.count)
        with naming(place):
            this = Labelled(found.count, bare(atoms), finite(labels))
        if previous is not None:
            found.sample[previous] = (found.sample[previous][0], this)
        previous = _place(found, draw)
        if previous is not None:
            found.sample[previous : previous + 1] = [(this, None)]
        found.add(atoms, labels)
    return found


def _place(found: Survey, draw: random.Random) -> int | None:
    """Where the next structure goes in the sample, so that all are equally likely in it."""
    if len(found.sample) < SAMPLE:
        return len(found.sample)
    place = draw.randrange(found.count + 1)
    return place if place < SAMPLE else None


def pairs_of(atoms: Atoms) -> Pairs:
    """All pairs of a molecule; in periodic structures those up to 5 Å, with an atom's images."""
    if not any(atoms.pbc):
        return Pairs(*np.triu_indices(len(atoms), 1), pdist(atoms.positions))
    first, second, distances = neighbours(atoms, SHELL)
    once = first <= second
    return Pairs(first[once], second[once], distances[once])


def fingerprint(atoms: Atoms, pairs: Pairs) -> np.ndarray:
    """Distances (Å) between atoms, sorted, for each pair of elements: as many for equal formulas.

    It does not change under rotation, translation, reflection and relabelling. In periodic
    structures the shortest distances of each pair of elements count.
    """
    first, second, distances = pairs
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    low = np.minimum(atoms.numbers[first], atoms.numbers[second])
    high = np.maximum(atoms.numbers[first], atoms.numbers[second])
    parts = []
    for (z, n), (other_z, other_n) in combinations_with_replacement(
        zip(numbers, counts, strict=True), 2
    ):
        part = np.sort(distances[(low == z) & (high == other_z)])
        if any(atoms.pbc):
            part = np.append(part, np.full(NEIGHBOURS * n, SHELL))[: NEIGHBOURS * min(n, other_n)]
        parts.append(part)
    whole = np.concatenate(parts) if parts else np.empty(0)
    if len(whole) > LONGEST:
        whole = whole[np.linspace(0, len(whole) - 1, LONGEST).astype(int)]
    return whole.astype(np.float32)


def nearest(
    fingerprints: np.ndarray, others: np.ndarray | None = None, *, within: float
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of ``others`` to each of ``fingerprints``, and the distance to it.

    Both are (n, n_distances), of one formula; without ``others`` it is the nearest but itself.
    The distance is the root mean square difference in Å; infinite where none is ``within``.
    """
    width = max(1, fingerprints.shape[1])
    scale = 1.0 / np.sqrt(width)
    points = np.ascontiguousarray(scale * fingerprints, dtype=np.float64)
    if points.shape[1] == 0:  # single atoms
        points = np.zeros((len(points), 1))
    if others is None:
        return _nearest_other(points, within)
    there = scale * np.asarray(others, dtype=np.float64)
    tree = cKDTree(there if there.shape[1] else np.zeros((len(there), 1)))
    distance, index = tree.query(points, distance_upper_bound=within)
    return index, distance


def _nearest_other(points: np.ndarray, within: float) -> tuple[np.ndarray, np.ndarray]:
    distance, index = cKDTree(points).query(points, k=2, distance_upper_bound=within)
    itself = index[:, 0] == np.arange(len(points))
    rows = np.arange(len(points))
    return index[rows, itself.astype(int)], distance[rows, itself.astype(int)]
