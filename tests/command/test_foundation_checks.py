"""What the energies of a foundation model tell of it."""

from __future__ import annotations

import numpy as np
import pytest

from mace_weak.command.atomic_energies import CompositionFit
from mace_weak.command.checking.foundation_checks import Comparison


def compared(*, scale: float, scatter: float) -> Comparison:
    """A model whose energies are ``scale`` times the labels, and scatter by ``scatter`` of them."""
    labels, errors = np.random.default_rng(1).normal(scale=0.01, size=(2, 200))
    predicted = scale * labels + scatter * errors
    own, shift, of_model = (
        CompositionFit({}, residuals, unique=True)
        for residuals in (labels, labels - predicted, predicted)
    )
    return Comparison([None] * len(labels), [], shift=shift, own=own, predicted=of_model)


@pytest.mark.parametrize(
    ("scale", "scatter", "unrelated"),
    [
        (1.0, 0.5, False),
        (1.0, 1.1, False),  # low energies of a surface that it knows
        (2.1, 0.1, True),  # silicon of another kind
        (0.0, 1.0, True),
        (1.0, 3.0, True),  # it hardly follows them
        (-1.0, 0.1, True),
    ],
)
def test_a_surface_is_another_one_by_its_scale_or_as_energies_do_not_follow_it(
    scale, scatter, unrelated
):
    comparison = compared(scale=scale, scatter=scatter)
    assert comparison.telling
    assert comparison.unrelated == unrelated
    # in all but the first the model leaves more of the energies than energies of the atoms do
    assert (comparison.shift.rmse >= comparison.own.rmse) == (scatter != 0.5)
