"""The option table: every option's range, and defaults that agree with it."""

from __future__ import annotations

import pytest

from mace_weak.errors import WeakLossError
from mace_weak.losses import TERMS, loss_terms
from mace_weak.options import OPTIONS, PREFIX, WeakOptions


def test_defaults_pass_their_own_checks():
    options = WeakOptions.from_mapping({})
    given = dict(vars(options))
    weights = {f"{term}_weight": weight for term, weight in given.pop("weights").items()}
    assert {option.name: option.default for option in OPTIONS} == given | weights
    assert set(weights) == {f"{term}_weight" for term in TERMS}


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


def test_an_unknown_loss_lists_the_known_ones():
    with pytest.raises(WeakLossError, match="weak_taylor, weak_spatial, weak_piwsl"):
        loss_terms("weak_tailor")
