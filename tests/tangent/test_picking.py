"""The choice of structures for their energies, against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from parametric import clusters, foundation

from mace_weak.tangent.picking import NOISE, PoolFeatures, pick, pool_features

N_STRUCTURES, N_PROBES, N_FEATURES = 12, 7, 9


@pytest.fixture
def features() -> PoolFeatures:
    generator = np.random.default_rng(0)
    sizes = generator.uniform(0.3, 3.0, size=(N_STRUCTURES, 1))
    return PoolFeatures(
        sizes * generator.normal(size=(N_STRUCTURES, N_FEATURES)),
        generator.normal(size=(N_PROBES, N_FEATURES)),
    )


def left(features: PoolFeatures, chosen: list[int]) -> float:
    """Of the forces, given the energies of some structures: by the posterior of the weights."""
    noise = NOISE * np.mean(np.sum(features.energies**2, axis=1))
    own = features.energies[chosen]
    covariance = np.linalg.inv(np.eye(N_FEATURES) + own.T @ own / noise)
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


def test_an_order_is_taken_as_it_is(features):
    order = [5, 1, 8]
    picked = pick(features, 3, order=order)
    assert picked.numbers == order
    assert picked.left[-1] == pytest.approx(left(features, order))
    assert picked.left[-1] > pick(features, 3).left[-1]


def test_energies_of_a_potential_settle_its_forces():
    """Pair energies of seven parameters, of which 7 energies leave little."""
    model = foundation(clusters(30))
    counts = np.array([[size] for size in model.sizes])
    features = pool_features(
        model, counts, probed=range(0, 30, 2), seed=1, watch=lambda steps, _: steps
    )
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
