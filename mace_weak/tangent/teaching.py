"""Structures to distil from: those of a data set and displaced copies, by the tangent model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mace_weak.displacements import random_displacements, seeded_generator
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import Model

LENGTHS = (0.05, 0.10, 0.15)  # Å, root mean square displacement of an atom


@dataclass(frozen=True, kw_only=True)
class Course:
    """How many displaced copies each structure has, of ``lengths`` (Å) in turn."""

    copies: int
    lengths: Sequence[float] = LENGTHS
    seed: int = 1

    def displacements(self, key: int, n_atoms: int) -> Tensor:
        """Displacements (copies, n_atoms, 3) in Å of the structure with this key."""
        generator = seeded_generator(self.seed, key, 1)
        moves = [
            random_displacements(
                1, n_atoms, length=self.lengths[copy % len(self.lengths)], generator=generator
            )
            for copy in range(self.copies)
        ]
        return torch.cat(moves) if moves else torch.zeros(0, n_atoms, 3, dtype=torch.float64)


@dataclass(frozen=True)
class Lesson:
    """A structure by its number, displaced (n_atoms, 3) in Å, with its energy and forces.

    The energy, in eV, is without the shifts of the atoms' energies; forces (n_atoms, 3) in eV/Å.
    """

    number: int
    displacement: Tensor
    energy: float
    forces: Tensor


def lessons(model: Model, tangent: Tangent, course: Course) -> Iterator[Lesson]:
    """Each structure and its displaced copies, labelled by the tangent model, in order."""
    for number, n_atoms in enumerate(model.sizes):
        still = torch.zeros(1, n_atoms, 3, dtype=torch.float64)
        moves = torch.cat([still, course.displacements(model.keys[number], n_atoms)])
        sample = tangent.potential(model, [number]).displaced(moves.to(tangent.change), forces=True)
        if sample.forces is None:
            raise RuntimeError("the tangent model gave no forces")
        energies, forces = sample.energy[:, 0].tolist(), sample.forces.cpu()
        for move, energy, force in zip(moves, energies, forces, strict=True):
            yield Lesson(number, move, energy, force)
