"""What the labels of a training set can tell of the forces, and whether its anchor knows better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mace_weak.likeness import Likeness, liken

# Labels for each coordinate of the atoms, measured in recipes/benchmark: 0.10 tell little of the
# forces, 0.33 enough.
ENOUGH = 0.2


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
    """How many labels there are for the coordinates of the atoms, and what the anchor knows.

    Structures of one composition have their coordinates in common. ``likeness`` is that of the
    anchor's energies to the labelled ones.
    """

    labels: int
    coordinates: int
    likeness: Likeness

    @property
    def forces_open(self) -> bool:
        """Whether the labels tell little of the forces and the anchor knows the surface."""
        return self.labels < ENOUGH * self.coordinates and self.likeness.known

    def __str__(self) -> str:
        return (
            f"{self.labels} labels for {self.coordinates} coordinates of the atoms and an anchor "
            f"that leaves {self.likeness}"
        )


def weigh(structures: Iterable[Knowledge]) -> Evidence:
    """The evidence in the structures of a training set, copies counted once."""
    different = dict.fromkeys(structures)
    labelled = [one for one in different if one.has_forces or not math.isnan(one.energy)]
    known = [structure for structure in labelled if not math.isnan(structure.energy)]
    sizes = {structure.counts: 3 * sum(structure.counts) for structure in labelled}
    forces = sum(sizes[structure.counts] for structure in labelled if structure.has_forces)
    return Evidence(
        labels=len(known) + forces,
        coordinates=sum(sizes.values()),
        likeness=liken(
            np.array([structure.counts for structure in known], dtype=float),
            np.array([structure.energy for structure in known]),
            np.array([structure.anchor_energy for structure in known]),
        ),
    )
