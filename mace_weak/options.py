"""The options of the weak losses: one table that every host, every check and the docs read.

A host shows the options under their names with the prefix ``weak_``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mace_weak.displacements import DIRECTIONS, GAUSSIAN
from mace_weak.errors import WeakLossError
from mace_weak.losses import LOSSES, TAYLOR, TERMS, UNDERDETERMINED, loss_terms

PREFIX = "weak_"
AUTO = "auto"
NONE = "none"
TANGENT = "tangent"
MODEL_LABELS = "model"
REFERENCE_LABELS = "reference"
CONSTANT = "constant"
LEARNING_RATE = "learning_rate"
LINEAR = "linear"
COSINE = "cosine"
SCHEDULES = (CONSTANT, LINEAR, COSINE, LEARNING_RATE)
# at which the weights are as given, for ``learning_rate``: MACE's default
REFERENCE_LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Option:
    """One option: how its text is read, its default, its range and what it means."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    valid: Callable[[Any], bool] = lambda value: True
    range: str = ""

    @property
    def key(self) -> str:
        return PREFIX + self.name

    @property
    def flag(self) -> str:
        return f"--{self.key}"

    def check(self, value: Any) -> Any:
        """``value`` as the option's type.

        Raises:
            WeakLossError: if it is of another type, or outside the option's range or choices.
        """
        expected = self.range or f"one of {', '.join(self.choices)}"
        try:
            parsed = self.parse(value)
        except (TypeError, ValueError, OverflowError):
            raise WeakLossError(f"{self.key} must be {expected}, not '{value}'") from None
        if (self.choices and parsed not in self.choices) or not self.valid(parsed):
            raise WeakLossError(f"{self.key} must be {expected}, not '{value}'")
        return parsed


def finite(value: Any) -> float:
    """``value`` as a number; ValueError if it is infinite or none."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def whole(value: Any) -> int:
    """``value`` as a whole number; ValueError if it has a fraction, OverflowError if infinite."""
    if isinstance(value, str):
        return int(value)
    if value != int(value):
        raise ValueError(value)
    return int(value)


def _weight(value: Any) -> float | str:
    return AUTO if value == AUTO else finite(value)


def _anchor(value: Any) -> str:
    return NONE if value is None else str(value)


def _names(value: Any) -> str:
    names = value if isinstance(value, list | tuple) else str(value).split(",")
    return ",".join(str(name).strip() for name in names)


def _weight_option(name: str) -> Option:
    term = TERMS[name]
    return Option(
        name=f"{name}_weight",
        parse=_weight,
        default=AUTO,
        valid=lambda value: value == AUTO or value >= 0,
        range="a number of at least 0, or auto",
        meaning=(
            f"weight of the {term.title} term relative to the supervised per-atom energy term (no "
            f"unit); auto: {term.anchored:g} with an anchor (at order 0: "
            f"{UNDERDETERMINED * term.anchored_order_0:g} where the labels are too few to "
            f"determine the forces, {term.anchored_order_0:g} elsewhere), "
            f"{term.plain:g} without, where the term is a curvature penalty (the prior "
            "that the energy surface is flat); half of that in a loss with both terms"
        ),
    )


def _fraction_option(name: str, meaning: str) -> Option:
    return Option(
        name=name,
        parse=finite,
        default=1.0,
        valid=lambda value: 0 < value <= 1,
        range="a number above 0 and up to 1",
        meaning=meaning,
    )


OPTIONS: tuple[Option, ...] = (
    *(_weight_option(term) for term in TERMS),
    Option(
        name="displacement",
        parse=finite,
        default=0.05,
        valid=lambda value: 0 < value <= 0.5,
        range="a length in Å, above 0 and up to 0.5",
        meaning="root mean square length of the displacement of an atom, Å",
    ),
    Option(
        name="direction",
        parse=str,
        default=GAUSSIAN,
        choices=DIRECTIONS,
        meaning=(
            "direction of the displacements: random (gaussian, uniform), or adversarial: against "
            "the error of the forces where they are labelled, else against their difference to "
            "the anchor's"
        ),
    ),
    Option(
        name="anchor",
        parse=_anchor,
        default=AUTO,
        range=f"{AUTO}, {NONE}, {TANGENT} or a model file",
        valid=bool,
        meaning=(
            "frozen potential whose difference to the model the weak terms act on; auto: the "
            "foundation model if there is one; none; tangent: the foundation model "
            "fine-tuned in closed form when training begins, whose energies and forces at the "
            "displaced places the model then learns; or a model file (loading one runs the code "
            "pickled in it)"
        ),
    ),
    Option(
        name="order",
        parse=str,
        default=AUTO,
        choices=(AUTO, "0", "1"),
        meaning=(
            "order of the expansion: 1, the published losses; 0, which leaves out the forces: the "
            "model keeps the anchor's forces, not its curvature alone (needs an anchor); auto: 0 "
            "with an anchor, for a model trained from scratch or where the labels are too few to "
            "determine the forces, else 1"
        ),
    ),
    Option(
        name="schedule",
        parse=str,
        default=LEARNING_RATE,
        choices=SCHEDULES,
        meaning=(
            "course of the weak weight: in proportion to the optimizer's learning rate, as given "
            f"at {REFERENCE_LEARNING_RATE:g}; constant; or falling to zero (linear, cosine)"
        ),
    ),
    Option(
        name="start_epoch",
        parse=whole,
        default=0,
        valid=lambda value: value >= 0,
        range="a whole number of at least 0",
        meaning="first epoch with the weak terms",
    ),
    Option(
        name="every",
        parse=whole,
        default=1,
        valid=lambda value: value >= 1,
        range="a whole number of at least 1",
        meaning="apply the weak terms every k-th step",
    ),
    _fraction_option(
        "fraction", "fraction of the structures that take the weak terms in a step, drawn at random"
    ),
    _fraction_option("atom_fraction", "fraction of the atoms that move in a random displacement"),
    Option(
        name="heads",
        parse=_names,
        default=AUTO,
        valid=bool,
        range=f"{AUTO} or names of heads separated by commas",
        meaning="heads that take the weak terms; auto: all but the replay head",
    ),
    Option(
        name="labels",
        parse=str,
        default=MODEL_LABELS,
        choices=(MODEL_LABELS, REFERENCE_LABELS),
        meaning="E(S) and F(S) in the Taylor term: the model's, or the labels where they exist",
    ),
)


@dataclass(frozen=True, kw_only=True)
class WeakOptions:
    """Checked values of ``OPTIONS``, under the same names; ``weights`` are by term."""

    weights: Mapping[str, float | str]
    displacement: float
    direction: str
    anchor: str
    order: str
    schedule: str
    start_epoch: int
    every: int
    fraction: float
    atom_fraction: float
    heads: str
    labels: str

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> WeakOptions:
        """Options from ``values``, under their prefixed names; absent ones take their defaults.

        Raises:
            WeakLossError: if a value is not of its option's type, range or choices.
        """
        checked = {
            option.name: option.check(values.get(option.key, option.default)) for option in OPTIONS
        }
        weights = {term: checked.pop(f"{term}_weight") for term in TERMS}
        return cls(weights=weights, **checked)


def refuse_without_effect(name: str, given: Collection[str], *, anchor: str = AUTO) -> None:
    """Refuse options, among the keys ``given``, that have no effect with the loss ``name``.

    They are of a term that it lacks, or what the tangent model as the ``anchor`` determines.

    Raises:
        WeakLossError: if there is one.
    """
    for option in ("order", "labels", "direction") if anchor == TANGENT else ():
        if f"{PREFIX}{option}" in given:
            raise WeakLossError(
                f"{PREFIX}{option} has no effect with {PREFIX}anchor {TANGENT}: remove it"
            )
    needed = {f"{term}_weight": term for term in TERMS} | {"labels": TAYLOR}
    for option, term in needed.items():
        key = f"{PREFIX}{option}"
        if key in given and term not in loss_terms(name):
            suitable = " or ".join(name for name, loss in LOSSES.items() if term in loss.terms)
            raise WeakLossError(f"{key} has no effect with {name}: choose {suitable}")
