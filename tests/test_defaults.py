"""What the labels of a training set tell of the forces, and whether its anchor knows better."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mace_weak.compositions import KNOWN
from mace_weak.defaults import (
    ENOUGH,
    Situation,
    StructureSummary,
    assess,
    default_weights,
    resolve,
    resolved_order,
)
from mace_weak.errors import WeakLossError
from mace_weak.losses import SPATIAL, TAYLOR, TERMS, UNDERDETERMINED
from mace_weak.options import WeakOptions

GENERATOR = np.random.default_rng(0)
ATOMS = np.array([-13.6, -1030.0])  # eV
ANCHOR_ATOMS = np.array([-10.0, -1000.0])


def structures(
    compositions: list[tuple[int, int]], *, error: float = 0.02, forces: bool = False
) -> list[StructureSummary]:
    """Energies that scatter by 0.1 eV/atom around those of the atoms, and an anchor's."""
    known = []
    for counts in compositions:
        size = sum(counts)
        surface = 0.1 * size * GENERATOR.standard_normal()
        wrong = error * size * GENERATOR.standard_normal()
        energy, anchor = (float(counts @ atoms) for atoms in (ATOMS, ANCHOR_ATOMS))
        known.append(StructureSummary(counts, energy + surface, anchor + surface + wrong, forces))
    return known


def test_structures_of_one_composition_have_their_coordinates_in_common():
    assessment = assess(structures([(4, 1)] * 20 + [(3, 1)] * 10))
    assert (assessment.labels, assessment.coordinates) == (30, 3 * (5 + 4))


def test_forces_are_labels_of_each_coordinate():
    assessment = assess(structures([(4, 1)] * 20, forces=True))
    assert (assessment.labels, assessment.coordinates) == (20 * (1 + 15), 15)


def test_forces_without_an_energy_are_labels_too():
    (alone,) = structures([(4, 1)], forces=True)
    assessment = assess([alone._replace(energy=math.nan), *structures([(3, 1)] * 2)])
    assert (assessment.labels, assessment.coordinates) == (15 + 2, 15 + 12)


def test_structures_without_a_label_tell_nothing():
    known = structures([(4, 1)] * 20)
    unknown = [structure._replace(energy=math.nan) for structure in structures([(9, 9)] * 5)]
    assert assess([*unknown, *known]) == assess(known)
    assert not assess(unknown).forces_underdetermined


def test_the_zeros_of_the_two_levels_do_not_matter():
    assessment = assess(structures([(2, 2), (4, 1), (3, 1), (6, 2)] * 50))
    assert assessment.agreement.left == pytest.approx(0.02, rel=0.2)
    assert assessment.agreement.labels == pytest.approx(0.1, rel=0.2)


def test_the_forces_are_open_with_few_labels_and_an_anchor_that_knows_the_surface():
    assessment = assess(structures([(4, 1)] * 20))
    open_forces = replace(assessment, coordinates=math.ceil(20 / ENOUGH) + 1)
    assert open_forces.forces_underdetermined
    assert not replace(open_forces, labels=21).forces_underdetermined
    wrong = assessment.agreement._replace(left=KNOWN * assessment.agreement.labels)
    assert not replace(open_forces, agreement=wrong).forces_underdetermined


@pytest.mark.parametrize(
    ("compositions", "expected"),
    [
        ([(64, 0)] * 15 + [(63, 0)] * 15 + [(62, 0)] * 15, True),
        ([(6, 3)] * 45, False),
        ([(6, 3)] * 9, False),
        ([(hydrogens, 1 + hydrogens // 2) for hydrogens in range(2, 30)], True),
    ],
    ids=["cells of a crystal", "a molecule", "a molecule, few", "many molecules"],
)
def test_the_cases_that_the_threshold_was_measured_on(compositions, expected):
    assert assess(structures(compositions)).forces_underdetermined is expected
    unrelated = assess(structures(compositions, error=0.3))
    assert not unrelated.forces_underdetermined


def test_copies_are_no_further_evidence():
    known = structures([(4, 1)] * 5)
    assert assess(known * 10) == assess(known)


def test_what_the_atoms_explain_exactly_tells_nothing_of_the_anchor():
    """Four formulas, four energies: what is left is rounding, with which an anchor may agree."""
    compositions = [(2, 1), (4, 1), (3, 1), (6, 2)]
    known = [
        StructureSummary(
            counts, float(counts @ ATOMS) + 1e-9 * size, float(counts @ ANCHOR_ATOMS), False
        )
        for size, counts in enumerate(compositions)
    ]
    assert not assess(known).agreement.known
    assert not assess(known).forces_underdetermined


FEW = assess(structures([(6, 2)] * 4))


@pytest.mark.parametrize(
    ("given", "anchored", "from_scratch", "underdetermined", "expected"),
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
    given, anchored, from_scratch, underdetermined, expected
):
    options = WeakOptions.from_mapping({"weak_order": given})
    situation = Situation(
        anchored=anchored, from_scratch=from_scratch, assessment=FEW if underdetermined else None
    )
    assert resolved_order(options, situation) == expected


def test_order_0_without_an_anchor_is_refused():
    options = WeakOptions.from_mapping({"weak_order": 0})
    with pytest.raises(WeakLossError, match="would hold the forces at zero: give a foundation"):
        resolve("weak_taylor", options, Situation(anchored=False))


def test_the_default_weight_depends_on_the_anchor():
    options = WeakOptions.from_mapping({"weak_spatial_weight": 0.5})
    found = {
        (name, anchored): resolve(name, options, Situation(anchored=anchored)).weights
        for name in ("weak_taylor", "weak_spatial")
        for anchored in (True, False)
    }
    assert found["weak_taylor", True] == {TAYLOR: TERMS[TAYLOR].anchored}
    assert found["weak_taylor", False] == {TAYLOR: TERMS[TAYLOR].plain}
    assert found["weak_spatial", False] == {SPATIAL: 0.5}


@pytest.mark.parametrize(("assessment", "factor"), [(FEW, UNDERDETERMINED), (None, 1.0)])
def test_the_default_weight_of_order_0_depends_on_the_labels(assessment, factor):
    situation = Situation(anchored=True, assessment=assessment)
    for name, term in (("weak_taylor", TAYLOR), ("weak_spatial", SPATIAL)):
        found = default_weights(name, situation, order=0)
        assert found == {term: factor * TERMS[term].anchored_order_0}
    at_order_1 = default_weights("weak_taylor", situation, order=1)
    assert at_order_1 == default_weights("weak_taylor", Situation(anchored=True))


def test_two_terms_share_the_default_weight():
    """A given one counts as it is, for each term."""
    anchored = Situation(anchored=True)
    halves = {term: one.anchored / 2 for term, one in TERMS.items()}
    assert default_weights("weak_piwsl", anchored) == halves
    options = WeakOptions.from_mapping({"weak_spatial_weight": 0.5})
    assert resolve("weak_piwsl", options, anchored).weights == {**halves, SPATIAL: 0.5}
