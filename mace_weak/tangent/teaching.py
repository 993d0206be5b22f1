"""Structures to distil from, those of a data set and displaced copies, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mace_weak.displacements import random_displacements, seeded_generator
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import Model

LENGTHS = (0.05, 0.10, 0.15)  # Å, root mean square displacement of an atom
COPIES = 4  # displaced ones of each structure
LAST_LR = 0.02  # of the first
STEPS, EPOCHS = 900, 15  # at least
BATCH, LARGE = 5, 1000  # from so many lessons on, batches are twice as large
ANCHORED_STEPS = 800
ANCHORED_BATCH = 5
ANCHORED_LR = 0.001
PLAIN_LR = 0.01  # where the foundation model knows nothing that must be kept


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a host's trainer learns; the learning rate falls from ``lr`` in each epoch."""

    epochs: int
    batch_size: int
    lr: float

    @property
    def decay(self) -> float:
        """Factor of the learning rate in each epoch."""
        return LAST_LR ** (1 / self.epochs)


def distilling(n_lessons: int, steps: int | None = None) -> Schedule:
    """For so many structures labelled by the tangent model; ``steps`` in place of the default."""
    batch_size = BATCH if n_lessons < LARGE else 2 * BATCH
    fewest = 1 if steps else EPOCHS
    epochs = max(fewest, round((steps or STEPS) * batch_size / n_lessons))
    return Schedule(epochs=epochs, batch_size=batch_size, lr=0.005)


def training_on_labels(n_structures: int, steps: int | None = None, *, anchored: bool) -> Schedule:
    """For the labels themselves, of so many structures, with the anchored loss or without."""
    batch_size = max(1, min(ANCHORED_BATCH, n_structures))
    epochs = max(1, round((steps or ANCHORED_STEPS) / (n_structures // batch_size)))
    return Schedule(epochs=epochs, batch_size=batch_size, lr=ANCHORED_LR if anchored else PLAIN_LR)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a host's trainer is given: a foundation model, a folder of work, files within it.

    The ``train`` file has energies (``REF_energy``, eV) and, if ``forces``, forces (``REF_forces``,
    eV/Å) of some or all. ``valid`` is only reported on, and may be the same file.
    """

    foundation: Path
    folder: Path
    train: Path
    valid: Path
    forces: bool
    schedule: Schedule
    device: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class LessonPlan:
    """How many displaced copies each structure has, of ``lengths`` (Å) in turn."""

    copies: int = COPIES
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


def lessons(
    model: Model, tangent: Tangent, plan: LessonPlan, moved: Callable[[int, Tensor], Model]
) -> Iterator[Lesson]:
    """Each structure and its displaced copies, labelled by the tangent model, in order.

    ``moved`` gives the model on copies of a structure by its number, displaced (n_copies, n_atoms,
    3) in Å: with the neighbours that a trainer finds there, not those of the structure at rest.
    """
    for number, n_atoms in enumerate(model.sizes):
        still = torch.zeros(1, n_atoms, 3, dtype=torch.float64)
        moves = torch.cat([still, plan.displacements(model.keys[number], n_atoms)])
        sample = tangent.potential(moved(number, moves), range(len(moves))).rest()
        if sample.forces is None:
            raise RuntimeError("the tangent model gave no forces")
        forces = sample.forces.cpu().view_as(moves)
        for move, energy, force in zip(moves, sample.energy.tolist(), forces, strict=True):
            yield Lesson(number, move, energy, force)
