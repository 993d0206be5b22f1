"""What the options mean in the steps of a run."""

from __future__ import annotations

import pytest
import torch

from mace_weak.course import Course
from mace_weak.errors import NonFiniteWeakLossError
from mace_weak.options import ANCHORED_WEIGHTS, PLAIN_WEIGHTS, WeakOptions
from mace_weak.step import require_finite


def course_of(name: str = "weak_taylor", *, epochs: float = 4, anchored: bool = False, **options):
    return Course(
        name,
        WeakOptions.from_mapping({f"weak_{key}": value for key, value in options.items()}),
        seed=0,
        max_num_epochs=epochs,
        anchored=anchored,
        eligible=[True] * 8,
        steps_per_epoch=2,
    )


@pytest.mark.parametrize(("anchored", "table"), [(True, ANCHORED_WEIGHTS), (False, PLAIN_WEIGHTS)])
def test_the_default_weights_depend_on_the_anchor(anchored, table):
    assert course_of("weak_piwsl", anchored=anchored).base_weights == table


def test_the_schedule_falls_within_the_epochs():
    course = course_of(taylor_weight=8, schedule="linear")
    weights = [course.weights(epoch, step) for epoch in range(4) for step in range(2)]
    assert [weight["taylor"] for weight in weights] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert course.weights(4, 0) == {}


def test_the_schedule_spans_less_than_an_epoch():
    course = course_of(epochs=0.5, taylor_weight=8, schedule="linear")
    assert course.weights(0, 0) == {"taylor": 8}
    assert course.weights(0, 1) == {}


def test_the_terms_come_every_third_step():
    course = course_of(every=3, schedule="constant")
    steps = [(epoch, step) for epoch in range(3) for step in range(2)]
    assert [bool(course.weights(*step)) for step in steps] == [True, False, False] * 2


def test_a_line_search_sees_one_objective():
    course = course_of(schedule="linear", every=1)
    course.resample = False
    assert course.weights(1, 0) == course.weights(1, 1)
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
