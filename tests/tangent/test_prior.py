"""The rows of the weak prior: they are the gradients of the residuals; and sketches of rows."""

from __future__ import annotations

import pytest
import torch
from parametric import PairModel, clusters, curved, parameters
from potentials import AnalyticPotential, pairwise
from torch import Tensor

from mace_weak.displacements import random_displacements, seeded_generator
from mace_weak.errors import WeakLossError
from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.residuals import spatial_residual, taylor_residual
from mace_weak.tangent.gradients import Features, coordinates_of
from mace_weak.tangent.prior import (
    ALL_TERMS,
    Directions,
    Rows,
    Sketch,
    curvature,
    curvature_at,
    work_along,
)

SIZES = (3, 0, 5, 2)
N_ROWS, N_ACTIVE = sum(SIZES), 30_000


@pytest.fixture
def model() -> PairModel:
    return PairModel(curved, parameters(4.0, 2.0, 1.2), clusters(1))


@pytest.fixture
def features(model) -> Features:
    return Features(model.surface([0]), coordinates_of(model))


@pytest.fixture
def moves() -> torch.Tensor:
    return random_displacements(2, 5, length=0.05, generator=seeded_generator(3))


def potential_of(model: PairModel) -> AnalyticPotential:
    """The same model as the losses see it, with forces."""
    surface = model.surface([0])
    energy = pairwise(lambda distance: model.pair(distance, model.parameters))
    return AnalyticPotential(surface.places, surface.structure, energy)


def gradient(residual: torch.Tensor, features: Features) -> torch.Tensor:
    by_parameters = torch.autograd.grad(residual.sum(), features.coordinates.parameters)
    return features.coordinates.row(by_parameters)


def test_the_row_of_curvature_is_that_of_the_taylor_residuals_with_their_forces(
    model, features, moves
):
    potential = potential_of(model)
    mean = (taylor_residual(potential, moves[0]) + taylor_residual(potential, -moves[0])) / 2
    torch.testing.assert_close(curvature(features, moves[0]), gradient(mean, features))


def test_the_row_of_the_spatial_term_is_that_of_the_spatial_residuals(model, features, moves):
    potential, (end, start) = potential_of(model), moves
    there = spatial_residual(potential, end, start)
    back = spatial_residual(potential, 2 * start - end, start)
    found = curvature_at(features, end, start)
    torch.testing.assert_close(found, gradient((there + back) / 2, features))


def test_the_row_of_work_is_that_of_the_forces_to_third_order(model, features, moves):
    found = []
    for scale in (0.2, 0.1):
        d = scale * moves[0]
        work = -(potential_of(model).rest().forces * d).sum()
        found.append(float((work_along(features, d) - gradient(work, features)).norm()))
    assert found[0] / found[1] == pytest.approx(8.0, rel=0.05)


def test_rows_come_in_the_order_of_the_terms(features):
    directions = Directions(terms=ALL_TERMS, length=0.05, seed=1)
    rows = directions.rows_of(features, 7, count=3, probes=2)
    assert rows.shape == (3 * 3 + 2, 3)
    for place, term in enumerate((TAYLOR, SPATIAL, FORCES)):
        alone = Directions(terms=(term,), length=0.05, seed=1)
        torch.testing.assert_close(
            alone.rows_of(features, 7, count=3, probes=2)[:3], rows[3 * place : 3 * place + 3]
        )


def test_the_key_and_the_seed_choose_the_displacements(features):
    directions = [Directions(terms=(FORCES,), length=0.05, seed=seed) for seed in (1, 2)]
    first, again, other, seeded = (
        directions[0].rows_of(features, 7, count=1, probes=0),
        directions[0].rows_of(features, 7, count=1, probes=0),
        directions[0].rows_of(features, 8, count=1, probes=0),
        directions[1].rows_of(features, 7, count=1, probes=0),
    )
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first, seeded)


@pytest.fixture
def made() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, N_ACTIVE, dtype=torch.float64, generator=generator) for n in SIZES]


def rows_of(made: list[Tensor], limit: float) -> Rows:
    like = made[0][0]
    return Rows.of(lambda number: made[number], SIZES, like, limit=limit, seed=1)


def errors_of(found: Tensor, exact: Tensor) -> float:
    """Of inner products, relative to the lengths; root mean square."""
    lengths = exact.diag().sqrt()
    errors = (found - exact) / lengths[:, None] / lengths
    return float(errors.square().mean().sqrt())


def test_a_sketch_keeps_inner_products():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, N_ACTIVE, dtype=torch.float64, generator=generator)
    sketch = Sketch.of(vectors[0], size=2048, seed=1)
    found = sketch(vectors) @ sketch(vectors).T
    assert errors_of(found, vectors @ vectors.T) < 1.5 / 2048**0.5
    assert torch.equal(sketch(vectors), Sketch.of(vectors[0], size=2048, seed=1)(vectors))


def test_rows_that_fit_are_kept_as_they_are(made):
    whole, weights = torch.cat(made), torch.arange(N_ROWS, dtype=torch.float64)
    rows = rows_of(made, 8 * N_ROWS * N_ACTIVE)
    assert rows.sketch is None
    torch.testing.assert_close(rows.gram(), whole @ whole.T)
    torch.testing.assert_close(rows.combined(weights), weights @ whole)


def test_rows_that_do_not_fit_are_sketched_within_the_limit(made):
    limit = 8 * N_ROWS * 1000
    rows = rows_of(made, limit)
    assert rows.values.numel() * rows.values.element_size() <= limit
    whole = torch.cat(made)
    assert errors_of(rows.gram(), whole @ whole.T) < 1.5 / 1000**0.5


def test_a_combination_of_sketched_rows_is_one_of_features(made):
    """Its product with a row is that of the sketches: what was solved is what is applied."""
    rows, weights = rows_of(made, 8 * N_ROWS * 1000), torch.ones(N_ROWS, dtype=torch.float64)
    found = torch.cat(made) @ rows.combined(weights)
    torch.testing.assert_close(found, rows.gram() @ weights)


def test_too_little_memory_is_refused(made):
    with pytest.raises(WeakLossError, match="the 10 rows of the closed form need"):
        rows_of(made, 8 * N_ROWS * 79)
