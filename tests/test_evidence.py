"""What the labels of a training set tell of the forces, and whether its anchor knows better."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mace_weak.evidence import ENOUGH, Knowledge, weigh
from mace_weak.likeness import KNOWN

GENERATOR = np.random.default_rng(0)
ATOMS = np.array([-13.6, -1030.0])  # eV
ANCHOR_ATOMS = np.array([-10.0, -1000.0])


def structures(
    compositions: list[tuple[int, int]], *, error: float = 0.02, forces: bool = False
) -> list[Knowledge]:
    """Energies that scatter by 0.1 eV/atom around those of the atoms, and an anchor's."""
    known = []
    for counts in compositions:
        size = sum(counts)
        surface = 0.1 * size * GENERATOR.standard_normal()
        wrong = error * size * GENERATOR.standard_normal()
        energy, anchor = (float(counts @ atoms) for atoms in (ATOMS, ANCHOR_ATOMS))
        known.append(Knowledge(counts, energy + surface, anchor + surface + wrong, forces))
    return known


def test_structures_of_one_composition_have_their_coordinates_in_common():
    evidence = weigh(structures([(4, 1)] * 20 + [(3, 1)] * 10))
    assert (evidence.labels, evidence.coordinates) == (30, 3 * (5 + 4))


def test_forces_are_labels_of_each_coordinate():
    evidence = weigh(structures([(4, 1)] * 20, forces=True))
    assert (evidence.labels, evidence.coordinates) == (20 * (1 + 15), 15)


def test_forces_without_an_energy_are_labels_too():
    (alone,) = structures([(4, 1)], forces=True)
    evidence = weigh([alone._replace(energy=math.nan), *structures([(3, 1)] * 2)])
    assert (evidence.labels, evidence.coordinates) == (15 + 2, 15 + 12)


def test_structures_without_a_label_tell_nothing():
    known = structures([(4, 1)] * 20)
    unknown = [structure._replace(energy=math.nan) for structure in structures([(9, 9)] * 5)]
    assert weigh([*unknown, *known]) == weigh(known)
    assert not weigh(unknown).forces_open


def test_the_zeros_of_the_two_levels_do_not_matter():
    evidence = weigh(structures([(2, 2), (4, 1), (3, 1), (6, 2)] * 50))
    assert evidence.likeness.left == pytest.approx(0.02, rel=0.2)
    assert evidence.likeness.labels == pytest.approx(0.1, rel=0.2)


def test_the_forces_are_open_with_few_labels_and_an_anchor_that_knows_the_surface():
    evidence = weigh(structures([(4, 1)] * 20))
    open_forces = replace(evidence, coordinates=math.ceil(20 / ENOUGH) + 1)
    assert open_forces.forces_open
    assert not replace(open_forces, labels=21).forces_open
    wrong = evidence.likeness._replace(left=KNOWN * evidence.likeness.labels)
    assert not replace(open_forces, likeness=wrong).forces_open


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
    assert weigh(structures(compositions)).forces_open is expected
    unrelated = weigh(structures(compositions, error=0.3))
    assert not unrelated.forces_open


def test_copies_are_no_further_evidence():
    known = structures([(4, 1)] * 5)
    assert weigh(known * 10) == weigh(known)


def test_what_the_atoms_explain_exactly_tells_nothing_of_the_anchor():
    """Four formulas, four energies: what is left is rounding, with which an anchor may agree."""
    compositions = [(2, 1), (4, 1), (3, 1), (6, 2)]
    known = [
        Knowledge(counts, float(counts @ ATOMS) + 1e-9 * size, float(counts @ ANCHOR_ATOMS), False)
        for size, counts in enumerate(compositions)
    ]
    assert not weigh(known).likeness.known
    assert not weigh(known).forces_open
