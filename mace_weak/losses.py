"""The table of the weak losses: the name a user gives, and the terms it adds."""

from __future__ import annotations

from mace_weak.errors import WeakLossError

TAYLOR = "taylor"
SPATIAL = "spatial"
FORCES = "forces"  # of a correction, in closed form; the tangent model's, in a training

LOSS_TERMS: dict[str, tuple[str, ...]] = {
    "weak_taylor": (TAYLOR,),
    "weak_spatial": (SPATIAL,),
    "weak_piwsl": (TAYLOR, SPATIAL),
}

# settings of a weak loss that is its supervised loss alone
WITHOUT_TERMS = {"loss": "weak_taylor", "weak_taylor_weight": "0", "weak_anchor": "none"}


def loss_terms(name: str) -> tuple[str, ...]:
    """Terms (``taylor``, ``spatial``) of the loss called ``name``.

    Raises:
        WeakLossError: if there is no such loss; the message lists those there are.
    """
    if name not in LOSS_TERMS:
        raise WeakLossError(
            f"unknown weak loss '{name}': the weak losses are {', '.join(LOSS_TERMS)}"
        )
    return LOSS_TERMS[name]
