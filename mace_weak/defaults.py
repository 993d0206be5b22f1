"""What ``auto`` means: order, weights and schedule that suit the anchor and the labels of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mace_weak.compositions import EnergyAgreement, energy_agreement
from mace_weak.errors import WeakLossError
from mace_weak.losses import FORCES, TANGENT_FORCES, TERMS, UNDERDETERMINED, loss_terms
from mace_weak.options import AUTO, CONSTANT, LEARNING_RATE, WeakOptions

# Labels for each coordinate of the atoms, measured in recipes/benchmark: 0.10 say little about the
# forces, 0.33 enough.
ENOUGH = 0.2


class StructureSummary(NamedTuple):
    """What is known of one structure: its label, in eV or NaN, and the anchor's energy, in eV.

    ``counts`` are its numbers of atoms of each kind, ``has_forces`` whether its forces are labels.
    """

    counts: tuple[int, ...]
    energy: float
    anchor_energy: float
    has_forces: bool


@dataclass(frozen=True)
class Assessment:
    """How many labels there are for the coordinates of the atoms, and what the anchor knows.

    Structures of one composition have their coordinates in common. ``agreement`` is that of the
    anchor's energies with the labelled ones.
    """

    labels: int
    coordinates: int
    agreement: EnergyAgreement

    @property
    def forces_underdetermined(self) -> bool:
        """Whether the labels say little about the forces and the anchor knows the surface."""
        return self.labels < ENOUGH * self.coordinates and self.agreement.known

    @property
    def warning(self) -> str | None:
        """What speaks against the anchor, if anything does."""
        if not self.agreement.another_surface:
            return None
        return (
            f"the anchor disagrees with your labels: it leaves {self.agreement}, so its surface is "
            "another one, and the weak terms hold on to it. Choose another anchor, or weak_anchor "
            "none, or correct the foundation model first: mace-weak finetune, with a structure "
            "of high energy that has forces"
        )

    def __str__(self) -> str:
        return (
            f"{self.labels} labels for {self.coordinates} coordinates of the atoms and an anchor "
            f"that leaves {self.agreement}"
        )


def assess(structures: Iterable[StructureSummary]) -> Assessment:
    """The assessment of a training set, copies counted once."""
    different = dict.fromkeys(structures)
    labelled = [one for one in different if one.has_forces or not math.isnan(one.energy)]
    known = [structure for structure in labelled if not math.isnan(structure.energy)]
    sizes = {structure.counts: 3 * sum(structure.counts) for structure in labelled}
    forces = sum(sizes[structure.counts] for structure in labelled if structure.has_forces)
    return Assessment(
        labels=len(known) + forces,
        coordinates=sum(sizes.values()),
        agreement=energy_agreement(
            np.array([structure.counts for structure in known], dtype=float),
            np.array([structure.energy for structure in known]),
            np.array([structure.anchor_energy for structure in known]),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the defaults of a run depend on.

    ``from_scratch`` is whether the model is not fine-tuned, ``tangent`` whether the anchor is the
    tangent model; without an ``assessment`` of the training set the labels count as enough.
    """

    anchored: bool
    from_scratch: bool = False
    tangent: bool = False
    assessment: Assessment | None = None

    @property
    def forces_underdetermined(self) -> bool:
        """Whether a fine-tuning's anchor knows more of the forces than the labels do."""
        assessed = self.assessment is not None and self.assessment.forces_underdetermined
        return assessed and not self.from_scratch


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The options of a run whose default depends on it, and the ``reason`` for the order."""

    order: int
    weights: Mapping[str, float]
    schedule: str
    reason: str = ""


def resolve(name: str, options: WeakOptions, situation: Situation) -> Resolved:
    """The options of the loss ``name``, as given or by default.

    Raises:
        WeakLossError: if the order is 0 without an anchor.
    """
    order = resolved_order(options, situation)
    by_assessment = options.order == AUTO and not (situation.tangent or situation.from_scratch)
    return Resolved(
        order=order,
        weights=_weights(name, options, situation, order),
        schedule=_schedule(options, situation),
        reason=f" by {situation.assessment}" if situation.assessment and by_assessment else "",
    )


def resolved_order(options: WeakOptions, situation: Situation) -> int:
    """Order of the expansion, 0 or 1: as given, or the default.

    Raises:
        WeakLossError: if it is 0 without an anchor, which would hold all forces at zero.
    """
    if situation.tangent:
        return 0
    if options.order == AUTO:
        forces_open = situation.from_scratch or situation.forces_underdetermined
        return 0 if situation.anchored and forces_open else 1
    if options.order == "0" and not situation.anchored:
        raise WeakLossError(
            "weak_order 0 without an anchor would hold the forces at zero: give a foundation "
            "model or weak_anchor, or weak_order 1"
        )
    return int(options.order)


def default_weights(name: str, situation: Situation, *, order: int = 1) -> dict[str, float]:
    """Weights of the terms of the loss ``name`` relative to the energy term.

    The penalties of the terms are of one size, so that together they share the weight.
    """
    names = loss_terms(name)
    return {term: _default_weight(term, situation, order) / len(names) for term in names}


def _default_weight(name: str, situation: Situation, order: int) -> float:
    term = TERMS[name]
    if situation.tangent:
        return term.tangent
    if not situation.anchored:
        return term.plain
    if order:
        return term.anchored
    return (UNDERDETERMINED if situation.forces_underdetermined else 1.0) * term.anchored_order_0


def _weights(name: str, options: WeakOptions, situation: Situation, order: int) -> dict[str, float]:
    weights = default_weights(name, situation, order=order)
    for term in weights:
        given = options.weights[term]
        if not isinstance(given, str):
            weights[term] = float(given)
    if situation.tangent:
        weights[FORCES] = TANGENT_FORCES * sum(weights.values())
    return weights


def _schedule(options: WeakOptions, situation: Situation) -> str:
    """That of the options; the tangent model is learned in the same way at any learning rate."""
    by_default = options.schedule == LEARNING_RATE
    return CONSTANT if situation.tangent and by_default else options.schedule
