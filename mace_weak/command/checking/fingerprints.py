"""Distances within a structure as its fingerprint, and structures that have the same."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

SHELL = 5.0  # Å, pairs of a periodic structure that count
NEIGHBOURS = 6  # of them for each atom
LONGEST = 256  # distances in a fingerprint, evenly out of all


class Pairs(NamedTuple):
    """Pairs of atoms (n_pairs,), each once, and their distances in Å."""

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray


def pairs_of(atoms: Atoms) -> Pairs:
    """All pairs of a molecule; in periodic structures those up to 5 Å, an atom's own images too."""
    if not any(atoms.pbc):
        return Pairs(*np.triu_indices(len(atoms), 1), pdist(atoms.positions))
    whole = atoms.copy()
    whole.cell = atoms.cell.complete()  # a slab may lack the vector that it does not repeat along
    first, second, distances = neighbour_list("ijd", whole, SHELL)
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
        own = np.sort(distances[(low == z) & (high == other_z)])
        if any(atoms.pbc):
            own = np.append(own, np.full(NEIGHBOURS * n, SHELL))[: NEIGHBOURS * min(n, other_n)]
        parts.append(own)
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
    own = np.ascontiguousarray(scale * fingerprints, dtype=np.float64)
    if own.shape[1] == 0:  # single atoms
        own = np.zeros((len(own), 1))
    if others is None:
        return _nearest_other(own, within)
    there = scale * np.asarray(others, dtype=np.float64)
    tree = cKDTree(there if there.shape[1] else np.zeros((len(there), 1)))
    distance, index = tree.query(own, distance_upper_bound=within)
    return index, distance


def _nearest_other(own: np.ndarray, within: float) -> tuple[np.ndarray, np.ndarray]:
    distance, index = cKDTree(own).query(own, k=2, distance_upper_bound=within)
    itself = index[:, 0] == np.arange(len(own))
    rows = np.arange(len(own))
    return index[rows, itself.astype(int)], distance[rows, itself.astype(int)]
