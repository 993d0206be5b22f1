"""One step: what is penalised of the residuals, and where."""

from __future__ import annotations

import pytest
import torch

from mace_weak.errors import NonFiniteWeakLossError
from mace_weak.losses import FORCES
from mace_weak.options import WeakOptions
from mace_weak.step import (
    Subset,
    WeakStep,
    absolute,
    huber,
    penalties_of,
    per_size,
    require_finite,
    squared,
)


def step_of(weights: dict[str, float], *, order: int = 1, **options) -> WeakStep:
    return WeakStep(
        epoch=3,
        number=5,
        weights=weights,
        order=order,
        rows=[0, 2],
        structures=[4, 7],
        seeds=(0, 3),
        options=WeakOptions.from_mapping({f"weak_{key}": one for key, one in options.items()}),
    )


def test_penalties():
    residual = torch.tensor([-0.02, 0.005, 0.0])
    torch.testing.assert_close(squared(residual), torch.tensor([4e-4, 2.5e-5, 0.0]))
    torch.testing.assert_close(absolute(residual), torch.tensor([0.02, 0.005, 0.0]))
    torch.testing.assert_close(huber(0.01)(residual), torch.tensor([1.5e-4, 1.25e-5, 0.0]))


@pytest.mark.parametrize("order", [0, 1])
def test_a_weight_means_the_same_for_a_structure_of_any_size(order):
    """For many of one thing side by side: their works add up at random, their curvatures do not."""
    generator = torch.Generator().manual_seed(0)
    moves = torch.randn(4000, 64, 3, generator=generator, dtype=torch.float64)
    per_atom = moves[..., 0] if order == 0 else moves.square().sum(-1) / 2
    means = [
        per_size(per_atom[:, :n].sum(-1), torch.full((4000,), n), order).square().mean()
        for n in (8, 64)
    ]
    assert means[1] == pytest.approx(float(means[0]), rel=0.15)


def test_a_subset_selects_and_puts_back():
    subset = Subset.of([0, 2], [1, 2, 3], torch.device("cpu"))
    assert subset.sizes == [1, 3]
    assert subset.per_structure(torch.arange(3)).tolist() == [0, 2]
    assert subset.per_atom(torch.arange(6)).tolist() == [0, 3, 4, 5]
    assert subset.scattered(torch.tensor([5.0, 6.0])).tolist() == [5.0, 0.0, 6.0]
    whole = Subset.of([0, 1], [1, 2], torch.device("cpu"))
    assert whole.per_atom(torch.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("per_atom", "factor"), [(True, 1.0), (False, 16.0)])
def test_penalties_carry_weight_scale_and_fraction(per_atom, factor):
    """Residuals of structures of four atoms; those of forces are squared already."""
    step = step_of({"taylor": 2.0, FORCES: 3.0}, fraction=0.5)
    subset = Subset.of([0, 2], [4, 4, 4], torch.device("cpu"))
    found = penalties_of(
        step, subset, {"taylor": torch.tensor([4.0, 8.0]), FORCES: torch.tensor([1.0, 2.0])},
        penalty=squared, n_atoms=torch.tensor([4, 4, 4]), scale=torch.tensor([1.0, 10.0]),
        per_atom=per_atom,
    )  # fmt: skip
    assert found["taylor"].tolist() == [factor * 4.0, 0.0, factor * 160.0]
    assert found[FORCES].tolist() == [6.0, 0.0, 120.0]


def test_a_part_that_is_not_finite_names_its_structure():
    residuals = {"taylor": torch.tensor([0.1, float("nan")])}
    with pytest.raises(NonFiniteWeakLossError, match=r"nan at epoch 3, step 5, from structure 7 "):
        require_finite(step_of({}), {"taylor": float("nan")}, residuals, counted="from 0")
