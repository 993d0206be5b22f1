"""The choice of structures for their energies, against dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parametric import clusters, foundation

from mace_weak.tangent.picking import NOISE, Gradients, PoolFeatures, pick

N_STRUCTURES, N_PROBES, N_FEATURES = 12, 7, 9


@pytest.fixture
def features() -> PoolFeatures:
    generator = np.random.default_rng(0)
    sizes = generator.uniform(0.3, 3.0, size=(N_STRUCTURES, 1))
    energies = sizes * generator.normal(size=(N_STRUCTURES, N_FEATURES))
    forces = generator.normal(size=(N_PROBES, N_FEATURES))
    return PoolFeatures(energies, forces, counts=np.ones((N_STRUCTURES, 1)))


def left(features: PoolFeatures, chosen: list[int]) -> float:
    """Of the forces, given the energies of some structures: by the posterior of the weights."""
    own = features.energies[chosen]
    noise = NOISE * np.sum(own**2, axis=1, keepdims=True)
    covariance = np.linalg.inv(np.eye(N_FEATURES) + own.T @ (own / noise))
    after = np.einsum("pi,ij,pj->p", features.forces, covariance, features.forces)
    return float(np.sqrt(np.mean(after) / np.mean(np.sum(features.forces**2, axis=1))))


def test_what_is_left_is_that_of_dense_algebra(features):
    picked = pick(features, 6)
    assert picked.left[0] == 1.0
    for count in range(1, 7):
        expected = left(features, picked.numbers[:count])
        assert picked.left[count] == pytest.approx(expected, rel=1e-9)


def test_each_is_the_best_of_all_that_are_free(features):
    picked = pick(features, 4)
    for count in range(4):
        before = picked.numbers[:count]
        others = [number for number in range(N_STRUCTURES) if number not in before]
        best = min(others, key=lambda number: left(features, [*before, number]))
        assert picked.numbers[count] == best


def test_what_has_labels_counts_and_is_not_chosen(features):
    known = pick(features, 2).numbers
    allowed = np.ones(N_STRUCTURES, dtype=bool)
    allowed[pick(features, 3).numbers[2]] = False
    picked = pick(features, 3, known=known, allowed=allowed)
    assert picked.left[0] == pytest.approx(left(features, known))
    assert not set(picked.numbers) & {*known, *np.flatnonzero(~allowed)}
    assert len(set(picked.numbers)) == 3


def test_the_shifts_of_all_atoms_are_determined_first(features):
    """By independent compositions, each the best for the forces among those."""
    counts = np.array([[2, 6, 1]] * 4 + [[1, 4, 0]] * 4 + [[4, 12, 2]] * 3 + [[3, 10, 0]])
    scale = np.array([[1.0]] * 4 + [[1e-3]] * 8)  # the first four are worth more
    mixed = replace(features, energies=scale * features.energies, counts=counts)
    chosen = pick(mixed, 5).numbers
    assert np.linalg.matrix_rank(counts[chosen[:3]]) == 3
    assert set(chosen[3:]) <= set(range(4))
    assert pick(mixed, 2, known=chosen[:3]).numbers == chosen[3:]


def test_an_order_is_taken_as_it_is(features):
    order = [5, 1, 8]
    picked = pick(features, 3, order=order)
    assert picked.numbers == order
    assert picked.left[-1] == pytest.approx(left(features, order))
    assert picked.left[-1] > pick(features, 3).left[-1]


def test_those_left_out_change_nothing(features):
    """What random structures leave is computed without all others."""
    order = [5, 1, 8]
    among_all = pick(features, 2, order=order[:2], known=order[2:])
    alone = pick(features.only(order), 2, order=[0, 1], known=[2])
    assert alone.left == pytest.approx(among_all.left, rel=1e-12)


def gradients(structures, probed) -> Gradients:
    return Gradients.of(foundation(structures), probed=probed, seed=1, watch=lambda steps, _: steps)


def test_gradients_in_parts_are_those_of_all():
    structures = clusters(6)
    whole = gradients(structures, {1, 4})
    parts = [gradients(structures[:2], {1}), gradients(structures[2:], {2})]
    for name in ("energies", "forces"):
        found = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(found, getattr(whole, name), rtol=1e-12)


def test_energies_of_a_potential_settle_its_forces():
    """Pair energies of seven parameters, of which 7 energies leave little."""
    structures = clusters(30)
    counts = np.array([[float(size)] for size in foundation(structures).sizes])
    features = PoolFeatures.of([gradients(structures, range(0, 30, 2))], counts)
    assert features.energies.shape[0] == 30
    assert features.forces.shape[0] == 15
    np.testing.assert_allclose(features.energies.sum(axis=0), 0.0, atol=1e-10)  # shifts taken out
    found = pick(features, 7)
    random = [
        pick(features, 7, order=np.random.default_rng(seed).permutation(30)[:7].tolist()).left[-1]
        for seed in range(20)
    ]
    assert found.left[-1] < 0.5
    assert found.left[-1] < min(random)
