"""What a training is proposed for: the data that was checked, and the model to start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_weak.command.checking.foundation_checks import Comparison
from mace_weak.command.checking.stiffness import heavier_weight
from mace_weak.command.checking.survey import Survey
from mace_weak.command.frames import Keys
from mace_weak.command.models import Model
from mace_weak.options import WeakOptions

DISPLACEMENT = WeakOptions.from_mapping({}).displacement
BOND_FRACTION = 0.05  # of the shortest bonds, for a displacement: 0.05 Å for C–H


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The data that was checked. ``model`` and ``comparison`` are those of the ``foundation``.

    ``residual`` is its own Taylor residual, meV/atom.
    """

    train: Survey
    valid: Survey | None
    foundation: str | None
    model: Model | None
    comparison: Comparison | None
    residual: float | None
    keys: Keys
    device: str

    @property
    def unrelated(self) -> bool:
        """Whether the foundation knows nothing of the energies."""
        return self.comparison is not None and self.comparison.unrelated

    @property
    def weak_options(self) -> dict[str, str]:
        """Options of the anchored Taylor loss, where the defaults do not suit."""
        options = {}
        if (length := shorter_displacement(self.train)) is not None:
            options["weak_displacement"] = f"{length:.2g}"
        if self.comparison is not None and self.residual is not None:
            weight = heavier_weight(self.comparison, self.residual)
            if weight is not None:
                options["weak_taylor_weight"] = f"{weight:g}"
        return options


def shorter_displacement(survey: Survey) -> float | None:
    """Its length in Å, where the bonds are too short for the default; else None."""
    suitable = suitable_displacement(survey)
    return suitable if suitable < 0.9 * DISPLACEMENT else None


def suitable_displacement(survey: Survey) -> float:
    """A twentieth of the usual shortest distance, Å; NaN without a distance."""
    shortest = np.array(survey.shortest)
    known = shortest[np.isfinite(shortest)]
    return float(BOND_FRACTION * np.median(known)) if len(known) else np.nan
