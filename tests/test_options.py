"""The option table: every option's range, and defaults that agree with it."""

from __future__ import annotations

import pytest

from mace_weak.errors import WeakLossError
from mace_weak.losses import SPATIAL, TAYLOR, loss_terms
from mace_weak.option import PREFIX
from mace_weak.options import OPTIONS, WeakOptions
from mace_weak.weights import (
    ANCHORED_WEIGHTS,
    ANCHORED_WEIGHTS_OF_ORDER_0,
    FORCES_OPEN,
    PLAIN_WEIGHTS,
    default_weights,
)


def test_defaults_pass_their_own_checks():
    options = WeakOptions.from_mapping({})
    assert {option.name: option.default for option in OPTIONS} == vars(options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("taylor_weight", "-1"),
        ("taylor_weight", "heavy"),
        ("taylor_weight", "nan"),
        ("spatial_weight", "inf"),
        ("displacement", "0"),
        ("displacement", "0.6"),
        ("displacement", "far"),
        ("direction", "up"),
        ("anchor", ""),
        ("order", "2"),
        ("schedule", "sine"),
        ("start_epoch", "-1"),
        ("start_epoch", "1.5"),
        ("every", "0"),
        ("every", "2.5"),
        ("every", "often"),
        ("every", float("inf")),
        ("fraction", "0"),
        ("fraction", "1.1"),
        ("atom_fraction", "nan"),
        ("heads", ""),
        ("labels", "none"),
    ],
)
def test_values_outside_the_range_are_refused_by_name(name, value):
    with pytest.raises(WeakLossError, match=rf"weak_{name} must be .+, not '{value}'"):
        WeakOptions.from_mapping({PREFIX + name: value})


def test_text_and_numbers_are_read_alike():
    text = WeakOptions.from_mapping({"weak_every": "3", "weak_taylor_weight": "2.5"})
    numbers = WeakOptions.from_mapping({"weak_every": 3, "weak_taylor_weight": 2.5})
    assert text == numbers
    assert WeakOptions.from_mapping({"weak_heads": ["a", "b"]}).heads == "a,b"


@pytest.mark.parametrize(
    ("given", "anchored", "from_scratch", "forces_open", "expected"),
    [
        ("auto", True, True, False, 0),
        ("auto", True, False, False, 1),
        ("auto", True, False, True, 0),
        ("auto", False, True, False, 1),
        (0, True, False, False, 0),
        ("1", True, True, True, 1),
    ],
)
def test_the_order_depends_on_the_anchor_the_start_and_the_labels(
    given, anchored, from_scratch, forces_open, expected
):
    options = WeakOptions.from_mapping({"weak_order": given})
    found = options.expansion_order(
        anchored=anchored, from_scratch=from_scratch, forces_open=forces_open
    )
    assert found == expected


def test_order_0_without_an_anchor_is_refused():
    options = WeakOptions.from_mapping({"weak_order": 0})
    with pytest.raises(WeakLossError, match="would hold the forces at zero: give a foundation"):
        options.expansion_order(anchored=False, from_scratch=False)


def test_the_default_weight_depends_on_the_anchor():
    options = WeakOptions.from_mapping({"weak_spatial_weight": 0.5})
    assert options.weights("weak_taylor", anchored=True) == {TAYLOR: ANCHORED_WEIGHTS[TAYLOR]}
    assert options.weights("weak_taylor", anchored=False) == {TAYLOR: PLAIN_WEIGHTS[TAYLOR]}
    assert options.weights("weak_spatial", anchored=False) == {SPATIAL: 0.5}


@pytest.mark.parametrize(("forces_open", "factor"), [(True, FORCES_OPEN), (False, 1.0)])
def test_the_default_weight_of_order_0_depends_on_the_labels(forces_open, factor):
    for name, term in (("weak_taylor", TAYLOR), ("weak_spatial", SPATIAL)):
        found = default_weights(name, anchored=True, order=0, forces_open=forces_open)
        assert found == {term: factor * ANCHORED_WEIGHTS_OF_ORDER_0[term]}
    assert default_weights(
        "weak_taylor", anchored=True, order=1, forces_open=forces_open
    ) == default_weights("weak_taylor", anchored=True)


def test_two_terms_share_the_default_weight():
    """As a given one is meant: for each term as it stands."""
    halves = {term: weight / 2 for term, weight in ANCHORED_WEIGHTS.items()}
    assert default_weights("weak_piwsl", anchored=True) == halves
    options = WeakOptions.from_mapping({"weak_spatial_weight": 0.5})
    assert options.weights("weak_piwsl", anchored=True) == {**halves, SPATIAL: 0.5}


def test_an_unknown_loss_lists_the_known_ones():
    with pytest.raises(WeakLossError, match="weak_taylor, weak_spatial, weak_piwsl"):
        loss_terms("weak_tailor")
