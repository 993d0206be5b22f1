"""Penalties and schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from mace_weak.penalties import absolute, huber, squared
from mace_weak.schedules import LEARNING_RATE, REFERENCE_LEARNING_RATE, SPANNING, schedule_factor


def test_penalties():
    residual = torch.tensor([-0.02, 0.005, 0.0])
    torch.testing.assert_close(squared(residual), torch.tensor([4e-4, 2.5e-5, 0.0]))
    torch.testing.assert_close(absolute(residual), torch.tensor([0.02, 0.005, 0.0]))
    torch.testing.assert_close(huber(0.01)(residual), torch.tensor([1.5e-4, 1.25e-5, 0.0]))


@pytest.mark.parametrize(
    ("schedule", "halfway", "end"),
    [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)],
)
def test_schedules_run_from_the_start_epoch_to_the_end(schedule, halfway, end):
    def factor(epoch: float) -> float:
        return schedule_factor(
            schedule, epoch=epoch, start_epoch=10, max_num_epochs=20, learning_rate=0.3
        )

    assert factor(9.9) == 0.0
    assert factor(10) == 1.0
    assert factor(15) == pytest.approx(halfway)
    assert factor(20) == pytest.approx(end)


@pytest.mark.parametrize("schedule", SPANNING)
def test_schedules_never_rise(schedule):
    factors = [
        schedule_factor(
            schedule, epoch=epoch / 10, start_epoch=0, max_num_epochs=10, learning_rate=0.3
        )
        for epoch in range(101)
    ]
    assert all(later <= earlier for earlier, later in pairwise(factors))


def test_a_schedule_in_proportion_to_the_learning_rate():
    def factor(learning_rate: float, epoch: float = 5) -> float:
        return schedule_factor(
            LEARNING_RATE, epoch=epoch, start_epoch=5, max_num_epochs=6, learning_rate=learning_rate
        )

    assert factor(REFERENCE_LEARNING_RATE) == 1.0
    assert factor(REFERENCE_LEARNING_RATE / 10) == pytest.approx(0.1)
    assert factor(REFERENCE_LEARNING_RATE, epoch=4) == 0.0
