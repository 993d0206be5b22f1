"""The weak losses and their terms: names, and default weights.

The weights are relative to the supervised energy term. They were measured in recipes/quickstart and
recipes/benchmark. The spatial residual has twice the mean square length, |d − d′|², so its square
is four times as large at order 1, and twice at order 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from mace_weak.errors import WeakLossError

TAYLOR = "taylor"
SPATIAL = "spatial"
FORCES = "forces"  # of a correction, in closed form; of the tangent model, in a training


@dataclass(frozen=True, kw_only=True)
class Term:
    """A weak term: its title, the displacements that it needs, and its default weights.

    ``plain`` is the weight without an anchor, ``anchored`` that of an expansion of order 1,
    ``anchored_order_0`` that of order 0, ``tangent`` that towards the tangent model.
    """

    title: str
    replicas: int
    plain: float
    anchored: float
    anchored_order_0: float
    tangent: float


TERMS = {
    TAYLOR: Term(
        title="Taylor-expansion (PITC)", replicas=1,
        plain=0.001, anchored=10.0, anchored_order_0=1.0, tangent=1.0,
    ),
    SPATIAL: Term(
        title="spatial-consistency (PISC)", replicas=2,
        plain=0.001, anchored=2.5, anchored_order_0=0.5, tangent=0.5,
    ),
}  # fmt: skip

UNDERDETERMINED = 10.0  # times the weight of order 0, where labels are too few to know the forces
TANGENT_FORCES = 100.0  # times the weight of the tangent model's energies, as MACE's own are


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A weak loss: its terms, and its name as a class, by which NequIP's configurations call it."""

    terms: tuple[str, ...]
    class_name: str


LOSSES = {
    "weak_taylor": Loss(terms=(TAYLOR,), class_name="WeakTaylorLoss"),
    "weak_spatial": Loss(terms=(SPATIAL,), class_name="WeakSpatialLoss"),
    "weak_piwsl": Loss(terms=(TAYLOR, SPATIAL), class_name="WeakPIWSLoss"),
}

# settings of a weak loss that is its supervised loss alone
WITHOUT_TERMS = {"loss": "weak_taylor", "weak_taylor_weight": "0", "weak_anchor": "none"}


def loss_terms(name: str) -> tuple[str, ...]:
    """Terms (``taylor``, ``spatial``) of the loss called ``name``.

    Raises:
        WeakLossError: if there is no such loss; the message lists those there are.
    """
    if name not in LOSSES:
        raise WeakLossError(f"unknown weak loss '{name}': the weak losses are {', '.join(LOSSES)}")
    return LOSSES[name].terms
