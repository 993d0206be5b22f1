"""How nequip's trainer takes the tangent model over, as far as it differs from the core's way."""

from __future__ import annotations

from dataclasses import replace

from mace_weak.tangent import teaching
from mace_weak.tangent.teaching import Schedule

FORCES_WEIGHT = 10.0  # of the lessons, relative to the energies per atom
LONGER, LR = 2, 0.02  # than MACE's models take
CLIP = 1.0  # without it, a few steep lessons undo what was learned


def distilling(n_lessons: int, steps: int | None = None) -> Schedule:
    """For so many structures labelled by the tangent model; ``steps`` in place of the default."""
    schedule = teaching.distilling(n_lessons, steps)
    epochs = schedule.epochs if steps else LONGER * schedule.epochs
    return replace(schedule, epochs=epochs, lr=LR)
