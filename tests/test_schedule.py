"""What the weak terms do in the steps of a run."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from mace_weak.defaults import Situation, StructureSummary, assess, resolve
from mace_weak.losses import FORCES, TANGENT_FORCES, TAYLOR, TERMS, UNDERDETERMINED
from mace_weak.options import LEARNING_RATE, REFERENCE_LEARNING_RATE, SCHEDULES, WeakOptions
from mace_weak.schedule import (
    SPANNING,
    Place,
    WeakSchedule,
    learning_rate_of,
    schedule_factor,
)

RATE = 0.004


def schedule_of(
    name: str = "weak_taylor",
    *,
    epochs: float = 4,
    situation: Situation | None = None,
    eligible: tuple[bool, ...] = (True,) * 8,
    resample: bool = True,
    **options,
) -> WeakSchedule:
    chosen = WeakOptions.from_mapping({f"weak_{key}": value for key, value in options.items()})
    return WeakSchedule(
        name=name,
        options=chosen,
        resolved=resolve(name, chosen, situation or Situation(anchored=False)),
        seed=0,
        n_epochs=epochs,
        steps_per_epoch=2,
        eligible=eligible,
        resample=resample,
    )


def weights(schedule: WeakSchedule, epoch: int, step: int, rate: float = RATE) -> dict[str, float]:
    return schedule.weights(Place(epoch, step, rate))


@pytest.mark.parametrize("anchored", [True, False])
def test_the_default_weights_depend_on_the_anchor(anchored):
    for name in ("weak_taylor", "weak_spatial"):
        schedule = schedule_of(name, situation=Situation(anchored=anchored))
        ((term, weight),) = schedule.resolved.weights.items()
        assert weight == (TERMS[term].anchored if anchored else TERMS[term].plain)


@pytest.mark.parametrize("name", ["weak_taylor", "weak_piwsl"])
def test_the_tangent_model_is_learned_with_its_forces_at_any_learning_rate(name):
    tangent = Situation(anchored=True, tangent=True)
    schedule = schedule_of(name, situation=tangent)
    given = schedule.resolved.weights
    assert schedule.resolved.order == 0
    assert given[FORCES] == TANGENT_FORCES * sum(
        weight for term, weight in given.items() if term != FORCES
    )
    assert weights(schedule, 0, 0, 1e-5) == weights(schedule, 3, 1, 0.01) == given
    falling = schedule_of(name, situation=tangent, schedule="linear", taylor_weight=2)
    assert weights(falling, 3, 0)[TAYLOR] == pytest.approx(2 / 4)


OPEN = [
    StructureSummary((9, 1), -float(energy), -1.1 * float(energy), False) for energy in range(4)
]


@pytest.mark.parametrize(
    ("options", "anchored", "from_scratch", "order", "weight"),
    [
        ({}, True, False, 0, UNDERDETERMINED * TERMS["taylor"].anchored_order_0),
        ({"order": 0}, True, False, 0, UNDERDETERMINED * TERMS["taylor"].anchored_order_0),
        ({"order": 1}, True, False, 1, TERMS["taylor"].anchored),
        ({}, False, False, 1, TERMS["taylor"].plain),
        ({}, True, True, 0, TERMS["taylor"].anchored_order_0),
    ],
    ids=["open", "0 given", "1 given", "no anchor", "from scratch"],
)
def test_few_labels_set_order_and_weight_where_they_are_left_open(
    options, anchored, from_scratch, order, weight
):
    situation = Situation(
        anchored=anchored, from_scratch=from_scratch, assessment=assess(OPEN) if anchored else None
    )
    schedule = schedule_of(situation=situation, **options)
    assert schedule.resolved.order == order
    assert schedule.resolved.weights == {"taylor": weight}
    chosen = anchored and not from_scratch and not options
    assert ("4 labels for 30 coordinates" in schedule.described(RATE)) == chosen


def test_an_anchor_of_another_surface_is_warned_of():
    energies = torch.randn(20, generator=torch.Generator().manual_seed(0)).tolist()
    warnings = {}
    for slope in (1.0, 2.5):
        structures = (StructureSummary((9,), one, slope * one, False) for one in energies)
        warnings[slope] = assess(structures).warning
    assert warnings[1.0] is None
    assert "(scale 2.5, correlation 1), so its surface is another one" in warnings[2.5]


def test_the_schedule_falls_within_the_epochs():
    schedule = schedule_of(taylor_weight=8, schedule="linear")
    found = [weights(schedule, epoch, step) for epoch in range(4) for step in range(2)]
    assert [weight["taylor"] for weight in found] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert weights(schedule, 4, 0) == {}


def test_the_schedule_spans_less_than_an_epoch():
    schedule = schedule_of(epochs=0.5, taylor_weight=8, schedule="linear")
    assert weights(schedule, 0, 0) == {"taylor": 8}
    assert weights(schedule, 0, 1) == {}


def test_the_weight_follows_the_learning_rate():
    """Whatever the length of the run: a restart, Stage Two or a plateau need nothing else."""
    schedule = schedule_of(taylor_weight=8, start_epoch=1)
    assert weights(schedule, 0, 1, REFERENCE_LEARNING_RATE) == {}
    assert weights(schedule, 1, 0, REFERENCE_LEARNING_RATE) == {"taylor": 8}
    assert weights(schedule, 1, 1, REFERENCE_LEARNING_RATE / 4) == {"taylor": 2}
    assert weights(schedule, 9, 0, 0.0) == {}


def test_a_log_says_the_weights_that_count():
    """At a tenth of the reference learning rate, a tenth of what was given."""
    schedule = schedule_of(taylor_weight=8, start_epoch=1)
    assert "taylor 0.8 at the start (schedule learning_rate)" in schedule.described(0.001)
    assert "none at the start" in schedule_of(taylor_weight=0).described(0.001)


def test_the_learning_rate_of_an_optimizer_is_that_of_its_fastest_group():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.0, 3e-3)]
    optimizer = torch.optim.Adam(groups)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    assert learning_rate_of(optimizer) == pytest.approx(3e-3)
    optimizer.step()
    scheduler.step()
    assert learning_rate_of(optimizer) == pytest.approx(1.5e-3)


def test_the_terms_come_every_third_step():
    schedule = schedule_of(every=3, schedule="constant")
    steps = [(epoch, step) for epoch in range(3) for step in range(2)]
    assert [bool(weights(schedule, *step)) for step in steps] == [True, False, False] * 2


def test_the_first_of_every_kth_steps_is_where_the_terms_begin():
    """Counted from the start of the run, a late beginning and a rare step might never meet."""
    schedule = schedule_of(every=3, start_epoch=1, schedule="constant")
    steps = [(epoch, step) for epoch in range(3) for step in range(2)]
    weak = [bool(weights(schedule, *step)) for step in steps]
    assert weak == [False, False, True, False, False, True]
    assert "taylor" in schedule.described(RATE)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_line_search_sees_one_objective(schedule):
    schedule = schedule_of(schedule=schedule, every=1, resample=False)
    assert weights(schedule, 1, 0) == weights(schedule, 1, 1)
    assert weights(schedule, 1, 0, 0.1) == weights(schedule, 1, 0, 1.0)
    assert schedule.seeds(0) == schedule.seeds(3)


def test_a_fraction_of_the_structures_is_unbiased():
    """Over many epochs, the weights 1/fraction of those drawn average to one."""
    schedule = schedule_of(fraction=0.25)
    count = sum(len(schedule.rows(range(8), epoch)) for epoch in range(500))
    assert count / 0.25 / (500 * 8) == pytest.approx(1.0, abs=0.07)


def test_only_eligible_structures_take_the_terms():
    schedule = schedule_of(eligible=(True, False, True))
    assert schedule.rows([2, 1, 0], epoch=0) == [0, 2]


@pytest.mark.parametrize(
    ("schedule", "halfway", "end"),
    [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)],
)
def test_schedules_run_from_the_start_epoch_to_the_end(schedule, halfway, end):
    def factor(epoch: float) -> float:
        return schedule_factor(
            schedule, epoch=epoch, start_epoch=10, n_epochs=20, learning_rate=0.3
        )

    assert factor(9.9) == 0.0
    assert factor(10) == 1.0
    assert factor(15) == pytest.approx(halfway)
    assert factor(20) == pytest.approx(end)


@pytest.mark.parametrize("schedule", SPANNING)
def test_schedules_never_rise(schedule):
    factors = [
        schedule_factor(schedule, epoch=epoch / 10, start_epoch=0, n_epochs=10, learning_rate=0.3)
        for epoch in range(101)
    ]
    assert all(later <= earlier for earlier, later in pairwise(factors))


def test_a_schedule_in_proportion_to_the_learning_rate():
    def factor(learning_rate: float, epoch: float = 5) -> float:
        return schedule_factor(
            LEARNING_RATE, epoch=epoch, start_epoch=5, n_epochs=6, learning_rate=learning_rate
        )

    assert factor(REFERENCE_LEARNING_RATE) == 1.0
    assert factor(REFERENCE_LEARNING_RATE / 10) == pytest.approx(0.1)
    assert factor(REFERENCE_LEARNING_RATE, epoch=4) == 0.0
