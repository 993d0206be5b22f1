"""What the energies of a model tell of it, beside labelled ones."""

from __future__ import annotations

import numpy as np
import pytest

from mace_weak.likeness import FEWEST, VARIED, Likeness, liken, proportion


def likeness_of(*, scale: float, scatter: float, structures: int = 200) -> Likeness:
    """Of a model whose energies are ``scale`` times the labels, and scatter by a part of them."""
    labels, errors = np.random.default_rng(1).normal(scale=0.01, size=(2, structures))
    return liken(["H2O"] * structures, labels - 100.0, scale * labels + scatter * errors + 3.0)


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
    assert likeness.another_surface == another
    # in all but the first the model explains nothing of the energies
    assert (likeness.left >= likeness.labels) == (scatter != 0.5)


def test_few_energies_and_those_that_do_not_differ_tell_nothing():
    wrong = {"scale": -1.0, "scatter": 0.1}
    assert likeness_of(**wrong, structures=FEWEST + 1).another_surface
    assert not likeness_of(**wrong, structures=FEWEST).another_surface
    labels = np.random.default_rng(2).normal(scale=0.01, size=50)
    assert not liken(["H2O"] * 50, labels, -0.001 * VARIED * labels).another_surface
    assert not liken([], np.empty(0), np.empty(0)).another_surface


def test_energies_of_one_structure_of_each_molecule_tell_nothing_of_a_surface():
    """Nor do the zeros of compositions, however wrong, where there are several of each."""
    labels = np.random.default_rng(3).normal(size=40)
    surface = np.random.default_rng(4).normal(scale=0.01, size=80)
    assert not liken(range(40), labels, -labels).another_surface
    twice = [*range(40), *range(40)]
    known = liken(twice, np.tile(labels, 2) + surface, -np.tile(labels, 2) + surface)
    assert known.differences == 40
    assert not known.another_surface
    assert known.scale == pytest.approx(1.0)
    assert liken(twice, np.tile(labels, 2) + surface, np.tile(labels, 2) - surface).another_surface


def test_slope_and_correlation():
    values = np.array([3.0, -1.0, 2.0])
    assert proportion(2.0 * values, values) == pytest.approx((2.0, 1.0))
    assert proportion(-values, values) == pytest.approx((-1.0, -1.0))
    orthogonal = np.array([1.0, 3.0, 0.0])
    assert proportion(orthogonal, values) == pytest.approx((0.0, 0.0))
    assert np.isnan(proportion(values, 0.0 * values)).all()
