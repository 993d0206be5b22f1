"""Default weights of the weak terms, relative to the supervised energy term.

Measured in recipes/quickstart and recipes/benchmark. The spatial residual has twice the mean square
length, |d − d′|², so that its square is four times as large at order 1, and twice at order 0.
"""

from __future__ import annotations

from mace_weak.losses import SPATIAL, TAYLOR, loss_terms

ANCHORED_WEIGHTS = {TAYLOR: 10.0, SPATIAL: 2.5}
ANCHORED_WEIGHTS_OF_ORDER_0 = {TAYLOR: 1.0, SPATIAL: 0.5}
FORCES_OPEN = 10.0  # times the latter, where the labels are too few to tell the forces
# towards the tangent model: as energies and forces that are labels weigh in MACE
TANGENT_WEIGHTS = {TAYLOR: 1.0, SPATIAL: 0.5}
TANGENT_FORCES = 100.0  # times the weight of the energies
PLAIN_WEIGHTS = {TAYLOR: 0.001, SPATIAL: 0.001}


def default_weights(
    name: str,
    *,
    anchored: bool,
    order: int = 1,
    forces_open: bool = False,
    tangent: bool = False,
) -> dict[str, float]:
    """Weights of the terms of the loss ``name`` relative to the energy term, by themselves.

    The penalties of both terms are of one size, so that together they share the weight.
    ``forces_open`` is whether the anchor tells more of the forces than the labels do, ``tangent``
    whether it is the tangent model.
    """
    weights, factor, terms = PLAIN_WEIGHTS, 1.0, loss_terms(name)
    if tangent:
        weights = TANGENT_WEIGHTS
    elif anchored:
        weights = ANCHORED_WEIGHTS if order else ANCHORED_WEIGHTS_OF_ORDER_0
        factor = FORCES_OPEN if forces_open and not order else 1.0
    return {term: factor * weights[term] / len(terms) for term in terms}
