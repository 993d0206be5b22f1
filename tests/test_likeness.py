"""What the energies of a model tell of it, beside labelled ones."""

from __future__ import annotations

import numpy as np
import pytest

from mace_weak.likeness import FEWEST, VARIED, Likeness, liken, proportion


def likeness_of(*, scale: float, scatter: float, structures: int = 200) -> Likeness:
    """Of a model whose energies are ``scale`` times the labels, and scatter by a part of them."""
    labels, errors = np.random.default_rng(1).normal(scale=0.01, size=(2, structures))
    return liken(labels, scale * labels + scatter * errors)


@pytest.mark.parametrize(
    ("scale", "scatter", "another"),
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
    scale, scatter, another
):
    likeness = likeness_of(scale=scale, scatter=scatter)
    assert likeness.telling
    assert likeness.another_surface == another
    # in all but the first the model leaves more of the energies than energies of the atoms do
    assert (likeness.left_by_model >= likeness.left_by_atoms) == (scatter != 0.5)


def test_few_energies_and_those_that_do_not_differ_tell_nothing():
    wrong = {"scale": -1.0, "scatter": 0.1}
    assert likeness_of(**wrong, structures=FEWEST).another_surface
    assert not likeness_of(**wrong, structures=FEWEST - 1).another_surface
    assert not liken(np.full(50, 0.01), np.full(50, -0.9 * VARIED)).another_surface
    assert not liken(np.empty(0), np.empty(0)).another_surface


def test_slope_and_correlation():
    values = np.array([3.0, -1.0, 2.0])
    assert proportion(2.0 * values, values) == pytest.approx((2.0, 1.0))
    assert proportion(-values, values) == pytest.approx((-1.0, -1.0))
    orthogonal = np.array([1.0, 3.0, 0.0])
    assert proportion(orthogonal, values) == pytest.approx((0.0, 0.0))
    assert np.isnan(proportion(values, 0.0 * values)).all()
