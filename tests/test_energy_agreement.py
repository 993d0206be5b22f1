"""What the energies of a model tell of it, beside labelled ones."""

from __future__ import annotations

import numpy as np
import pytest

from mace_weak.compositions import FEWEST, VARIED, EnergyAgreement, energy_agreement, proportion

WATER = [[2.0, 1.0]]
GENERATOR = np.random.default_rng(1)


def normal(*size: int) -> np.ndarray:
    """Energies that scatter by 0.01 eV."""
    return GENERATOR.normal(scale=0.01, size=size)


def agreement_of(*, scale: float, scatter: float, structures: int = 200) -> EnergyAgreement:
    """Of a model whose energies are ``scale`` times the labels, and scatter by a part of them."""
    labels, errors = np.random.default_rng(1).normal(scale=0.03, size=(2, structures))
    counts = np.array(WATER * structures)
    return energy_agreement(counts, labels - 100.0, scale * labels + scatter * errors + 3.0)


@pytest.mark.parametrize(
    ("scale", "scatter", "another", "by_scale"),
    [
        (1.0, 0.5, False, False),
        (1.0, 1.1, False, False),  # low energies of a surface that it knows
        (2.1, 0.1, True, True),  # silicon of another kind
        (0.0, 1.0, True, False),
        (1.0, 3.0, True, False),  # it hardly follows them
        (-1.0, 0.1, True, False),
    ],
)
def test_a_surface_is_another_one_by_its_scale_or_as_energies_do_not_follow_it(
    scale, scatter, another, by_scale
):
    agreement = agreement_of(scale=scale, scatter=scatter)
    assert agreement.another_surface == another
    assert agreement.another_scale == by_scale
    # in all but the first the model explains nothing of the energies
    assert (agreement.left >= agreement.labels) == (scatter != 0.5)


def test_few_energies_and_those_that_do_not_differ_tell_nothing():
    wrong = {"scale": -1.0, "scatter": 0.1}
    assert agreement_of(**wrong, structures=FEWEST + 1).another_surface
    assert not agreement_of(**wrong, structures=FEWEST).another_surface
    labels = normal(50)
    constant = energy_agreement(np.array(WATER * 50), labels, -0.001 * VARIED * labels)
    assert not constant.another_surface
    nothing = energy_agreement(np.empty((0, 2)), np.empty(0), np.empty(0))
    assert not nothing.known
    assert not nothing.another_surface


def test_the_zeros_of_compositions_do_not_matter_where_there_are_several_of_each():
    """Nor that the model has the molecules in another order."""
    counts = np.array([[hydrogens, 1.0] for hydrogens in range(1, 41)] * 2)
    zeros = np.tile(normal(40) * 100.0, 2)
    surface = 0.1 * counts.sum(axis=1) * normal(80)
    known = energy_agreement(counts, zeros + surface, surface - zeros)
    assert known.differences == 40
    assert known.known
    assert known.left == pytest.approx(0.0, abs=1e-12)
    assert (known.scale, known.correlation) == pytest.approx((1.0, 1.0))
    assert energy_agreement(counts, zeros + surface, zeros - surface).another_surface


def test_of_one_structure_of_each_composition_energies_of_the_atoms_are_taken_out():
    counts = np.array([[hydrogens, 1.0 + hydrogens % 7] for hydrogens in range(1, 41)])
    labels, errors = 1e-2 * counts.sum(axis=1) * GENERATOR.normal(size=(2, 40))
    zeros = counts @ np.array([-13.6, -1030.0])
    agreement = energy_agreement(counts, labels + zeros, labels + 0.3 * errors)
    assert agreement.labels == pytest.approx(0.01, rel=0.3)
    assert agreement.left == pytest.approx(0.003, rel=0.3)
    assert agreement.known
    opposite = energy_agreement(counts, labels + zeros, -labels)
    assert opposite.correlation == pytest.approx(-1.0)
    assert not opposite.known
    assert not opposite.another_surface  # of which such energies tell nothing


def test_slope_and_correlation():
    values = np.array([3.0, -1.0, 2.0])
    assert proportion(2.0 * values, values) == pytest.approx((2.0, 1.0))
    assert proportion(-values, values) == pytest.approx((-1.0, -1.0))
    orthogonal = np.array([1.0, 3.0, 0.0])
    assert proportion(orthogonal, values) == pytest.approx((0.0, 0.0))
    assert np.isnan(proportion(values, 0.0 * values)).all()
