"""What a training is proposed for: the data that was checked, and the model to start from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from mace_weak.command.checking.foundation_checks import Comparison
from mace_weak.command.checking.survey import Survey
from mace_weak.command.frames import Keys
from mace_weak.command.models import Model
from mace_weak.options import WeakOptions

DISPLACEMENT = WeakOptions.from_mapping({}).displacement
BOND_FRACTION = 0.05  # of the shortest bonds, for a displacement: 0.05 Å for C–H


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The data that was checked. ``model`` and ``comparison`` are those of the ``foundation``."""

    train: Survey
    valid: Survey | None
    foundation: str | None
    model: Model | None
    comparison: Comparison | None
    keys: Keys
    device: str

    @property
    def unrelated(self) -> bool:
        """Whether the foundation knows nothing of the energies."""
        return self.comparison is not None and self.comparison.agreement.another_surface

    @property
    def in_closed_form(self) -> str:
        """The call of ``mace-weak finetune``, for a comment."""
        words = ["mace-weak", "finetune", str(self.foundation), str(self.train.path)]
        for label in ("energy", "forces"):
            key = getattr(self.keys, label)
            if key != getattr(Keys(), label):
                words.append(f"--{label}-key={key}")
        return f"in closed form: {shlex.join(words)} --out finetuned"

    @property
    def weak_options(self) -> dict[str, str]:
        """Options of the anchored Taylor loss, where the defaults do not suit."""
        suitable = suitable_displacement(self.train)
        # less only where the bonds are too short for the default
        return {"weak_displacement": f"{suitable:.2g}"} if suitable < 0.9 * DISPLACEMENT else {}


def suitable_displacement(survey: Survey) -> float:
    """A twentieth of the usual shortest distance, Å; NaN without a distance."""
    shortest = np.array(survey.shortest)
    known = shortest[np.isfinite(shortest)]
    return float(BOND_FRACTION * np.median(known)) if len(known) else np.nan
