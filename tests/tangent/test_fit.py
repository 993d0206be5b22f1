"""The solution in closed form, on potentials whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parametric import PairModel, clusters, curved, foundation, labels_of, parameters, reference

from mace_weak.errors import WeakLossError
from mace_weak.tangent.fit import fit as fit_with_posterior
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.plan import Settings


def fit(*args, **kwargs):
    tangent, _ = fit_with_posterior(*args, **kwargs)
    return tangent


def forces_by(tangent, model, number=0):
    return tangent.potential(model, [number]).rest().forces


@pytest.mark.parametrize("terms", [(), ("taylor", "forces"), ("taylor", "spatial", "forces")])
def test_a_model_linear_in_its_parameters_is_recovered(terms):
    structures = clusters(25)
    model, target = foundation(structures), reference(structures)
    tangent = fit(model, labels_of(model, target, shift=-3.0), Settings(terms=terms))
    unseen = clusters(4, seed=9)
    there = foundation(unseen)
    for number in range(4):
        _, expected = reference(unseen).sample(number)
        torch.testing.assert_close(forces_by(tangent, there, number), expected, atol=3e-3, rtol=0)
    assert tangent.shifts[0] == pytest.approx(-3.0, abs=0.01)


def test_forces_of_one_structure_are_worth_its_coordinates():
    structures = clusters(6)
    model, target = foundation(structures), reference(structures)
    unseen = clusters(1, seed=9)
    _, expected = reference(unseen).sample(0)
    errors = []
    for with_forces in ((), (0,)):
        tangent = fit(model, labels_of(model, target, with_forces=with_forces), Settings())
        errors.append(float((forces_by(tangent, foundation(unseen)) - expected).square().mean()))
    assert errors[1] < 0.3 * errors[0]


def test_the_result_does_not_depend_on_the_order_of_the_structures():
    structures = clusters(12)
    model, target = foundation(structures), reference(structures)
    labels = labels_of(model, target)
    one = fit(model, labels, Settings(terms=()))
    turned = PairModel(model.pair, model.parameters, structures[::-1])
    other = fit(turned, Labels(labels.counts[::-1], labels.energies[::-1], labels.forces[::-1]),
                Settings(terms=()))  # fmt: skip
    torch.testing.assert_close(one.change, other.change, rtol=1e-4, atol=1e-6)


def test_shifts_of_the_atoms_change_nothing_else():
    structures = clusters(12)
    model, target = foundation(structures), reference(structures)
    plain = fit(model, labels_of(model, target), Settings())
    moved = fit(model, labels_of(model, target, shift=-400.0), Settings())
    torch.testing.assert_close(plain.change, moved.change, rtol=1e-4, atol=1e-5)
    assert moved.shifts[0] == pytest.approx(plain.shifts[0] - 400.0, abs=1e-6)


def test_duplicates_change_little_and_fail_nowhere():
    structures = clusters(8)
    twice = [*structures, *structures]
    model = foundation(structures)
    labels = labels_of(model, reference(structures))
    one = fit(model, labels, Settings(terms=()))
    double = Labels(
        np.concatenate([labels.counts] * 2), np.tile(labels.energies, 2), [None] * len(twice)
    )
    other = fit(foundation(twice), double, Settings(terms=()))
    assert float((one.change - other.change).norm() / one.change.norm()) < 0.05


def test_constant_labels_change_nothing():
    structures = clusters(8)
    labels = Labels(np.full((8, 1), 5), np.full(8, -40.0), [None] * 8)
    tangent = fit(foundation(structures), labels, Settings())
    assert tangent.shifts[0] == pytest.approx(-8.0, abs=1e-6)
    assert float(tangent.change.abs().max()) < 1e-6


def test_too_few_and_too_many_labels_are_refused():
    structures = clusters(2)
    model = foundation(structures)
    with pytest.raises(WeakLossError, match="leave nothing to learn"):
        fit(model, labels_of(model, reference(structures)), Settings())
    many = Labels(np.ones((5000, 1)), np.zeros(5000), [None] * 5000)
    with pytest.raises(WeakLossError, match="more than the"):
        fit(model, many, Settings())


def test_a_model_that_is_not_linear_is_expanded_about_its_parameters():
    structures = clusters(30)
    model = PairModel(curved, parameters(4.0, 2.0, 1.2), structures)
    target = PairModel(curved, parameters(4.02, 2.01, 1.205), structures)
    tangent = fit(model, labels_of(model, target), Settings())
    unseen = clusters(1, seed=9)
    before = PairModel(curved, model.parameters, unseen)
    _, expected = PairModel(curved, target.parameters, unseen).sample(0)
    off = float((before.sample(0)[1] - expected).norm())
    assert float((forces_by(tangent, before) - expected).norm()) < 0.05 * off
