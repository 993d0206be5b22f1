"""What a training is proposed for: the data that was checked, and the model to start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mace_weak.command.checking.foundation_checks import Comparison
from mace_weak.command.checking.stiffness import heavier_weight, own_residual
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
        return self.comparison is not None and self.comparison.unrelated

    @property
    def displacement(self) -> float:
        """Its length in Å: the default, or less where the bonds are too short for it."""
        suitable = suitable_displacement(self.train)
        return suitable if suitable < 0.9 * DISPLACEMENT else DISPLACEMENT

    @cached_property
    def residual(self) -> float | None:
        """The foundation's own Taylor residual, meV/atom."""
        if self.model is None or self.comparison is None:
            return None
        return own_residual(self.model, self.comparison, length=self.displacement)

    @property
    def weak_options(self) -> dict[str, str]:
        """Options of the anchored Taylor loss, where the defaults do not suit."""
        options = {}
        if self.displacement != DISPLACEMENT:
            options["weak_displacement"] = f"{self.displacement:.2g}"
        if self.comparison is not None and self.residual is not None:
            weight = heavier_weight(self.comparison, self.residual)
            if weight is not None:
                options["weak_taylor_weight"] = f"{weight:g}"
        return options


def suitable_displacement(survey: Survey) -> float:
    """A twentieth of the usual shortest distance, Å; NaN without a distance."""
    shortest = np.array(survey.shortest)
    known = shortest[np.isfinite(shortest)]
    return float(BOND_FRACTION * np.median(known)) if len(known) else np.nan
