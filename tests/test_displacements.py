"""Displacements: their statistics, their independence, and their direction."""

from __future__ import annotations

import pytest
import torch

from mace_weak.displacements import (
    GAUSSIAN,
    UNIFORM,
    adversarial_displacement,
    drawn,
    random_displacements,
    seeded_generator,
    structure_displacements,
)
from mace_weak.errors import WeakLossError

SETTINGS = {"length": 0.05, "direction": GAUSSIAN, "atom_fraction": 1.0}


def many(**settings) -> torch.Tensor:
    return random_displacements(2, 50_000, generator=seeded_generator(3), **settings)


@pytest.mark.parametrize("direction", [GAUSSIAN, UNIFORM])
def test_the_length_is_the_root_mean_square_per_atom(direction):
    displacement = many(length=0.05, direction=direction)
    length = displacement.square().sum(-1).mean().sqrt()
    assert float(length) == pytest.approx(0.05, rel=0.01)
    assert float(displacement.mean().abs()) < 3 * 0.05 / 300_000**0.5


def test_uniform_components_stay_within_the_length():
    assert float(many(length=0.05, direction=UNIFORM).abs().max()) <= 0.05


def test_a_random_subset_of_the_atoms_moves():
    moved = many(length=0.05, atom_fraction=0.3).norm(dim=-1) > 0
    assert float(moved.double().mean()) == pytest.approx(0.3, abs=0.01)


def test_an_unknown_direction_is_refused():
    with pytest.raises(WeakLossError, match="gaussian or uniform, not 'sideways'"):
        random_displacements(1, 1, length=0.1, direction="sideways", generator=seeded_generator(0))


def test_a_displacement_depends_on_seeds_and_structure_alone():
    together = structure_displacements([4, 9, 2], [3, 1, 2], n_replicas=2, seeds=(1, 5), **SETTINGS)
    alone = structure_displacements([9, 2], [1, 2], n_replicas=2, seeds=(1, 5), **SETTINGS)
    torch.testing.assert_close(together[:, 3:], alone, rtol=0, atol=0)
    later = structure_displacements([9, 2], [1, 2], n_replicas=2, seeds=(1, 6), **SETTINGS)
    assert not torch.equal(alone, later)


def test_the_hosts_random_stream_is_untouched():
    state = torch.get_rng_state()
    structure_displacements([0], [5], n_replicas=1, seeds=(0, 0), **SETTINGS)
    drawn(0, fraction=0.5, seeds=(0, 0))
    assert torch.equal(state, torch.get_rng_state())


def test_about_the_fraction_of_the_structures_is_drawn():
    count = sum(drawn(number, fraction=0.25, seeds=(0, 0)) for number in range(4000))
    assert count / 4000 == pytest.approx(0.25, abs=0.03)
    assert all(drawn(number, fraction=1.0, seeds=(0, 0)) for number in range(10))


def test_adversarial_displacements_go_against_the_force_error(structure, displacements):
    error = displacements[1].clone()
    error[3] = 0.0  # the lone atom has no error
    against = adversarial_displacement(
        error, structure, n_structures=3, length=0.05, otherwise=displacements[0]
    )
    for number in (0, 2):
        atoms = structure == number
        length = against[atoms].square().sum(-1).mean().sqrt()
        assert float(length) == pytest.approx(0.05)
        cosine = torch.cosine_similarity(against[atoms].flatten(), error[atoms].flatten(), dim=0)
        assert float(cosine) == pytest.approx(-1.0)
    torch.testing.assert_close(against[3], displacements[0][3])
