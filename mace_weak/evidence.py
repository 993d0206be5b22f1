"""What the labels of a training set can tell of the forces, and whether its anchor knows better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
    """The numbers of labels and of the atoms' coordinates, and how the anchor goes with the labels.

    Structures of one composition have their coordinates in common.
    """

    labels: int
    coordinates: int
    likeness: Likeness

    @property
    def forces_open(self) -> bool:
        """Whether the labels tell little of the forces and the anchor knows the surface."""
        few = self.labels < ENOUGH * self.coordinates
        return few and self.likeness.left_by_model < KNOWN * self.likeness.left_by_atoms

    def __str__(self) -> str:
        return (
            f"{self.labels} labels for {self.coordinates} coordinates of the atoms, and an anchor "
            f"that leaves {self.likeness}"
        )


def weigh(structures: Iterable[Knowledge]) -> Evidence:
    """The evidence in the structures of a training set."""
    labelled = [one for one in structures if one.has_forces or not math.isnan(one.energy)]
    known = [structure for structure in labelled if not math.isnan(structure.energy)]
    sizes = {structure.counts: 3 * sum(structure.counts) for structure in labelled}
    forces = sum(sizes[structure.counts] for structure in labelled if structure.has_forces)
    counts = np.array([structure.counts for structure in known], dtype=float)
    return Evidence(
        labels=len(known) + forces,
        coordinates=sum(sizes.values()),
        likeness=liken(
            _over_atoms(counts, [structure.energy for structure in known]),
            _over_atoms(counts, [structure.anchor_energy for structure in known]),
        ),
    )


def _over_atoms(counts: np.ndarray, energies: Sequence[float]) -> np.ndarray:
    return fit_atoms(counts, np.array(energies)).residuals if energies else np.empty(0)
