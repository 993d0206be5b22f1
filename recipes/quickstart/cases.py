"""The fine-tunings that the quickstart compares, for either host."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A loss (None: the supervised one alone) and the options of the weak losses."""

    loss: str | None = None
    options: dict[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For a folder."""
        words = [self.loss or "plain", *(f"{key} {value}" for key, value in self.options.items())]
        return re.sub(r"[^a-z0-9.]+", "_", " ".join(words))


COMPARISON = {"plain": Case(), "weak_taylor": Case("weak_taylor")}
SWEEP = {
    "plain": Case(),
    **{
        f"weak_taylor, weight {weight}": Case("weak_taylor", {"weak_taylor_weight": weight})
        for weight in (1, 3, 10, 30)
    },
    **{
        f"weak_spatial, weight {weight}": Case("weak_spatial", {"weak_spatial_weight": weight})
        for weight in (1, 3, 10)
    },
    "weak_piwsl, weights 10": Case(
        "weak_piwsl", {"weak_taylor_weight": 10, "weak_spatial_weight": 10}
    ),
    **{
        f"weak_taylor, no anchor, weight {weight}": Case(
            "weak_taylor", {"weak_anchor": "none", "weak_taylor_weight": weight}
        )
        for weight in (0.001, 0.01, 0.1)
    },
    "weak_spatial, no anchor": Case("weak_spatial", {"weak_anchor": "none"}),
}
