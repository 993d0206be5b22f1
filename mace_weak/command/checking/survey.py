"""One pass over a file of structures: what the checks need, in little memory."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from mace_weak.command.checking.fingerprints import Pairs, fingerprint, pairs_of
from mace_weak.command.frames import Keys, bare, finite, isolated, labelled_frames
from mace_weak.command.progress import progress
from mace_weak.misread import ISOLATED

SAMPLE = 1000  # structures that are kept whole


@dataclass(frozen=True)
class Labelled:
    """A structure of the file by its number, and its labels that are finite."""

    number: int
    atoms: Atoms
    labels: Mapping[str, np.ndarray]

    @property
    def bound(self) -> bool:
        """Whether its energy is more than that of an atom alone."""
        return len(self.atoms) > 1 or any(self.atoms.pbc)


@dataclass
class Group:
    """Structures of one formula: their numbers in the file and their fingerprints."""

    numbers: list[int] = field(default_factory=list)
    fingerprints: list[np.ndarray] = field(default_factory=list)


@dataclass
class Survey:
    """What a file holds.

    A value for each structure have ``energies`` (eV, NaN if absent), ``sizes`` (atoms),
    ``largest_forces`` (eV/Å), ``shortest`` (the shortest distance, Å) and ``loneliest`` (that of
    the atom farthest from its next neighbour, Å). ``labels`` counts each label, ``bad`` has the
    numbers of the structures in which it is NaN or infinite. ``isolated_atoms`` have their energy
    (eV) by element, of which ``misspelt`` are not called so by MACE; in the structures numbered
    ``misplaced`` forces stand in the comment line. ``sample`` are a thousand structures
    at random at most, each with the one behind it in the file.
    """

    path: Path
    elements: set[str] = field(default_factory=set)
    labels: Counter[str] = field(default_factory=Counter)
    bad: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    groups: dict[tuple[str, bool], Group] = field(default_factory=lambda: defaultdict(Group))
    sizes: list[int] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    largest_forces: list[float] = field(default_factory=list)
    shortest: list[float] = field(default_factory=list)
    loneliest: list[float] = field(default_factory=list)
    isolated_atoms: dict[str, float | None] = field(default_factory=dict)
    misspelt: int = 0
    misplaced: list[int] = field(default_factory=list)
    sample: list[tuple[Labelled, Labelled | None]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.sizes)

    @property
    def coordinates(self) -> int:
        """Those of the atoms, which structures of one formula have in common."""
        return sum(3 * self.sizes[group.numbers[0]] for group in self.groups.values())

    @property
    def structures(self) -> list[Labelled]:
        return [first for first, _ in self.sample]

    @property
    def steps(self) -> Iterator[tuple[Labelled, Labelled]]:
        """Pairs of structures of which one stands behind the other in the file."""
        return ((first, second) for first, second in self.sample if second is not None)

    def add(self, atoms: Atoms, labels: Mapping[str, np.ndarray]) -> None:
        """Take in the next structure of the file."""
        pairs = pairs_of(atoms)
        group = self.groups[atoms.get_chemical_formula(), any(atoms.pbc)]
        group.numbers.append(self.count)
        group.fingerprints.append(fingerprint(atoms, pairs))
        self._add_labels(atoms, labels)
        shortest, loneliest = neighbour_distances(len(atoms), pairs)
        self.shortest.append(shortest)
        self.loneliest.append(loneliest)
        self.elements.update(atoms.get_chemical_symbols())
        self.sizes.append(len(atoms))

    def _add_labels(self, atoms: Atoms, labels: Mapping[str, np.ndarray]) -> None:
        for name, value in labels.items():
            self.labels[name] += 1
            if not np.all(np.isfinite(value)):
                self.bad[name].append(self.count)
        energy = float(labels.get("energy", np.nan))
        if isolated(atoms):
            known = energy if np.isfinite(energy) else None
            self.isolated_atoms[atoms.get_chemical_symbols()[0]] = known
            self.misspelt += atoms.info["config_type"] != ISOLATED
        self.energies.append(energy)
        forces = labels.get("forces", np.full((1, 3), np.nan))
        self.largest_forces.append(float(np.linalg.norm(forces, axis=1).max()))


def neighbour_distances(n_atoms: int, pairs: Pairs) -> tuple[float, float]:
    """The shortest distance, and the farthest of all atoms' next neighbours, Å."""
    if n_atoms == 1 and not len(pairs.distances):
        return np.inf, 0.0
    next_one = np.full(n_atoms, np.inf)
    np.minimum.at(next_one, pairs.first, pairs.distances)
    np.minimum.at(next_one, pairs.second, pairs.distances)
    return float(next_one.min()), float(next_one.max())


def survey(path: Path, keys: Keys) -> Survey:
    """Read a file once.

    Raises:
        WeakLossError: if it is missing, empty or cannot be read.
    """
    found = Survey(path)
    draw = random.Random(0)
    behind: int | None = None  # place in the sample of the structure before this one
    for _, atoms, labels in progress(labelled_frames(path, keys), f"reading {path.name}"):
        if keys.forces in atoms.info:
            found.misplaced.append(found.count)
        this = Labelled(found.count, bare(atoms), finite(labels))
        if behind is not None:
            found.sample[behind] = (found.sample[behind][0], this)
        behind = _place(found, draw)
        if behind is not None:
            found.sample[behind : behind + 1] = [(this, None)]
        found.add(atoms, labels)
    return found


def _place(found: Survey, draw: random.Random) -> int | None:
    """Where the next structure goes in the sample, so that all are equally likely in it."""
    if len(found.sample) < SAMPLE:
        return len(found.sample)
    place = draw.randrange(found.count + 1)
    return place if place < SAMPLE else None
