"""What the options mean in the steps of a run."""

from __future__ import annotations

import pytest
import torch

from mace_weak.course import Course, learning_rate_of
from mace_weak.errors import NonFiniteWeakLossError
from mace_weak.evidence import Knowledge
from mace_weak.losses import FORCES, TAYLOR
from mace_weak.options import WeakOptions
from mace_weak.schedules import REFERENCE_LEARNING_RATE, SCHEDULES
from mace_weak.step import require_finite
from mace_weak.weights import (
    ANCHORED_WEIGHTS,
    ANCHORED_WEIGHTS_OF_ORDER_0,
    FORCES_OPEN,
    PLAIN_WEIGHTS,
    TANGENT_FORCES,
)

RATE = 0.004


def course_of(name: str = "weak_taylor", *, epochs: float = 4, anchored: bool = False, **options):
    return Course(
        name,
        WeakOptions.from_mapping({f"weak_{key}": value for key, value in options.items()}),
        seed=0,
        max_num_epochs=epochs,
        order=1,
        anchored=anchored,
        eligible=[True] * 8,
        steps_per_epoch=2,
    )


@pytest.mark.parametrize(("anchored", "table"), [(True, ANCHORED_WEIGHTS), (False, PLAIN_WEIGHTS)])
def test_the_default_weights_depend_on_the_anchor(anchored, table):
    for name in ("weak_taylor", "weak_spatial"):
        (weight,) = course_of(name, anchored=anchored).base_weights.items()
        assert weight in table.items()


@pytest.mark.parametrize("name", ["weak_taylor", "weak_piwsl"])
def test_the_tangent_model_is_learned_with_its_forces_at_any_learning_rate(name):
    course = course_of(name, anchored=True)
    course.tangent, course.order = True, 0
    weights = course.base_weights
    assert weights[FORCES] == TANGENT_FORCES * sum(
        weight for term, weight in weights.items() if term != FORCES
    )
    assert course.weights(0, 0, 1e-5) == course.weights(3, 1, 0.01) == weights
    falling = course_of(name, anchored=True, schedule="linear", taylor_weight=2)
    falling.tangent = True
    assert falling.weights(3, 0, RATE)[TAYLOR] == pytest.approx(2 / 4)


OPEN = [Knowledge((9, 1), -float(energy), -1.1 * float(energy), False) for energy in range(4)]


@pytest.mark.parametrize(
    ("options", "anchored", "from_scratch", "order", "weight"),
    [
        ({}, True, False, 0, FORCES_OPEN * ANCHORED_WEIGHTS_OF_ORDER_0["taylor"]),
        ({"order": 0}, True, False, 0, FORCES_OPEN * ANCHORED_WEIGHTS_OF_ORDER_0["taylor"]),
        ({"order": 1}, True, False, 1, ANCHORED_WEIGHTS["taylor"]),
        ({}, False, False, 1, PLAIN_WEIGHTS["taylor"]),
        ({}, True, True, 0, ANCHORED_WEIGHTS_OF_ORDER_0["taylor"]),
    ],
    ids=["open", "0 given", "1 given", "no anchor", "from scratch"],
)
def test_few_labels_set_order_and_weight_where_they_are_left_open(
    options, anchored, from_scratch, order, weight
):
    course = course_of(anchored=anchored, **options)
    course.from_scratch = from_scratch
    course.weigh(OPEN)
    assert course.order == order
    assert course.base_weights == {"taylor": weight}
    chosen = anchored and not from_scratch and not options
    assert ("4 labels for 30 coordinates" in course.described(RATE)) == chosen


@pytest.mark.parametrize("from_scratch", [True, False])
def test_an_anchor_of_another_surface_is_doubted(from_scratch):
    energies = torch.randn(20, generator=torch.Generator().manual_seed(0)).tolist()
    doubts = {}
    for slope in (1.0, 2.5):
        course = course_of(anchored=True)
        course.from_scratch = from_scratch
        course.weigh(Knowledge((9,), energy, slope * energy, False) for energy in energies)
        doubts[slope] = course.doubt
    assert doubts[1.0] is None
    assert "(scale 2.5, correlation 1): its surface is another one" in doubts[2.5]
    assert course_of().doubt is None


@pytest.mark.parametrize("order", [0, 1])
def test_a_weight_means_the_same_for_a_structure_of_any_size(order):
    """For many of one thing side by side: their works add up at random, their curvatures do not."""
    course = course_of()
    course.order = order
    generator = torch.Generator().manual_seed(0)
    moves = torch.randn(4000, 64, 3, generator=generator, dtype=torch.float64)
    per_atom = moves[..., 0] if order == 0 else moves.square().sum(-1) / 2
    means = [
        course.per_size(per_atom[:, :n].sum(-1), torch.full((4000,), n)).square().mean()
        for n in (8, 64)
    ]
    assert means[1] == pytest.approx(float(means[0]), rel=0.15)


def test_the_schedule_falls_within_the_epochs():
    course = course_of(taylor_weight=8, schedule="linear")
    weights = [course.weights(epoch, step, RATE) for epoch in range(4) for step in range(2)]
    assert [weight["taylor"] for weight in weights] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert course.weights(4, 0, RATE) == {}


def test_the_schedule_spans_less_than_an_epoch():
    course = course_of(epochs=0.5, taylor_weight=8, schedule="linear")
    assert course.weights(0, 0, RATE) == {"taylor": 8}
    assert course.weights(0, 1, RATE) == {}


def test_the_weight_follows_the_learning_rate():
    """Whatever the length of the run: a restart, Stage Two or a plateau need nothing else."""
    course = course_of(taylor_weight=8, start_epoch=1)
    assert course.weights(0, 1, REFERENCE_LEARNING_RATE) == {}
    assert course.weights(1, 0, REFERENCE_LEARNING_RATE) == {"taylor": 8}
    assert course.weights(1, 1, REFERENCE_LEARNING_RATE / 4) == {"taylor": 2}
    assert course.weights(9, 0, 0.0) == {}


def test_a_log_tells_the_weights_that_count():
    """At a tenth of the reference learning rate, a tenth of what was given."""
    course = course_of(taylor_weight=8, start_epoch=1)
    assert "taylor 0.8 at the start (schedule learning_rate)" in course.described(0.001)
    assert "none at the start" in course_of(taylor_weight=0).described(0.001)


def test_the_learning_rate_of_an_optimizer_is_that_of_its_fastest_group():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.0, 3e-3)]
    optimizer = torch.optim.Adam(groups)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    assert learning_rate_of(optimizer) == pytest.approx(3e-3)
    optimizer.step()
    scheduler.step()
    assert learning_rate_of(optimizer) == pytest.approx(1.5e-3)


def test_the_terms_come_every_third_step():
    course = course_of(every=3, schedule="constant")
    steps = [(epoch, step) for epoch in range(3) for step in range(2)]
    assert [bool(course.weights(*step, RATE)) for step in steps] == [True, False, False] * 2


def test_the_first_of_every_kth_steps_is_where_the_terms_begin():
    """Counted from the start of the run, a late beginning and a rare step might never meet."""
    course = course_of(every=3, start_epoch=1, schedule="constant")
    steps = [(epoch, step) for epoch in range(3) for step in range(2)]
    weak = [bool(course.weights(*step, RATE)) for step in steps]
    assert weak == [False, False, True, False, False, True]
    assert "taylor" in course.described(RATE)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_line_search_sees_one_objective(schedule):
    course = course_of(schedule=schedule, every=1)
    course.resample = False
    assert course.weights(1, 0, RATE) == course.weights(1, 1, RATE)
    assert course.weights(1, 0, 0.1) == course.weights(1, 0, 1.0)
    assert course.seeds(0) == course.seeds(3)


def test_a_fraction_of_the_structures_is_unbiased():
    """Over many epochs, the weights 1/fraction of those drawn average to one."""
    course = course_of(fraction=0.25)
    count = sum(len(course.rows(range(8), epoch)) for epoch in range(500))
    assert count / 0.25 / (500 * 8) == pytest.approx(1.0, abs=0.07)


def test_only_eligible_structures_take_the_terms():
    course = course_of()
    course.eligible = [True, False, True]
    assert course.rows([2, 1, 0], epoch=0) == [0, 2]


def test_a_part_that_is_not_finite_names_its_structure():
    residuals = {"taylor": torch.tensor([0.1, float("nan")])}
    with pytest.raises(NonFiniteWeakLossError, match=r"nan at epoch 3, step 5, from structure 7 "):
        require_finite(
            {"taylor": float("nan")}, residuals, [4, 7], epoch=3, step=5, counted="from 0"
        )
