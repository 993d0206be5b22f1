"""The rows of a data set, whole and sketched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.tangent.rows import Rows, Sketch

SIZES = (3, 0, 5, 2)
N_ROWS, N_ACTIVE = sum(SIZES), 30_000


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
