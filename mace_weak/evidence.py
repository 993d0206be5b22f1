"""What the labels of a training set can tell of the forces, and whether its anchor knows better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mace_weak.compositions import fit_atoms
from mace_weak.likeness import Likeness, liken

# measured in recipes/benchmark:
ENOUGH = 0.2  # labels for each coordinate of the atoms: 0.10 tell little of the forces, 0.33 enough
KNOWN = 0.7  # part of the energies that an anchor may leave: good ones up to 0.5, a wrong one 1.0


class Knowledge(NamedTuple):
    """What is known of one structure: its label, in eV or NaN, and the anchor's energy, in eV.

    ``counts`` are its numbers of atoms of each kind, ``has_forces`` whether its forces are labels.
    """

    counts: tuple[int, ...]
    energy: float
    anchor_energy: float
    has_forces: bool


@dataclass(frozen=True)
class Evidence:
    """How many ``labels`` there are for the ``coordinates`` of the atoms, and what is left.

    Structures of one composition have their coordinates in common. ``left_by_anchor`` and
    ``left_by_atoms`` are root mean squares, in eV/atom, of what the anchor's energies and energies
    of the atoms, and the latter alone, do not explain of the labelled energies; ``likeness`` tells
    how the anchor goes with them.
    """

    labels: int
    coordinates: int
    left_by_anchor: float
    left_by_atoms: float
    likeness: Likeness

    @property
    def forces_open(self) -> bool:
        """Whether the labels tell little of the forces and the anchor knows the surface."""
        few = self.labels < ENOUGH * self.coordinates
        return few and self.left_by_anchor < KNOWN * self.left_by_atoms

    def __str__(self) -> str:
        return (
            f"{self.labels} labels for {self.coordinates} coordinates of the atoms, with energies "
            f"of which the anchor leaves {1e3 * self.left_by_anchor:.3g} meV/atom and energies of "
            f"the atoms alone {1e3 * self.left_by_atoms:.3g}"
        )


def weigh(structures: Iterable[Knowledge]) -> Evidence:
    """The evidence in the structures of a training set."""
    labelled = [one for one in structures if one.has_forces or not math.isnan(one.energy)]
    known = [structure for structure in labelled if not math.isnan(structure.energy)]
    sizes = {structure.counts: 3 * sum(structure.counts) for structure in labelled}
    forces = sum(sizes[structure.counts] for structure in labelled if structure.has_forces)
    counts = np.array([structure.counts for structure in known], dtype=float)
    energies = np.array([structure.energy for structure in known])
    anchor = np.array([structure.anchor_energy for structure in known])
    sizes_of_known = counts.sum(axis=-1)
    return Evidence(
        labels=len(known) + forces,
        coordinates=sum(sizes.values()),
        left_by_anchor=_left(counts, energies - anchor),
        left_by_atoms=_left(counts, energies),
        likeness=liken(
            [structure.counts for structure in known],
            energies / sizes_of_known,
            anchor / sizes_of_known,
        ),
    )


def _left(counts: np.ndarray, energies: np.ndarray) -> float:
    if not len(energies):
        return 0.0
    return float(np.sqrt(np.mean(fit_atoms(counts, energies).residuals ** 2)))
