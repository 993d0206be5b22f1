"""Whether the forces of a file are the slopes of its energies, and in its units."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.spatial.transform import Rotation

from mace_weak.agreement import proportion
from mace_weak.command.checking.fingerprints import fingerprint, nearest, pairs_of
from mace_weak.command.checking.survey import Labelled, Survey

FARTHEST = 0.3  # Å, root mean square displacement between two structures that are compared
CURVED = 0.5  # of the work: where the forces of both ends disagree by more, it says nothing
ENOUGH = 5  # pairs
TOLERANCE = 0.2  # of the slope, for the curvature that the mean of two forces leaves out


def work_between(first: Labelled, second: Labelled) -> tuple[float, float] | None:
    """ΔE, and the work −½⟨F + F′, r′ − r⟩ on the way between two close structures, eV.

    None where they are too far apart, or have not the same atoms, cell and labels.
    """
    one, other = first.atoms, second.atoms
    if not comparable(first, second):
        return None
    forces, there = first.labels["forces"], second.labels["forces"]
    if any(one.pbc):
        step, _ = find_mic(other.positions - one.positions, one.cell, one.pbc)
    else:
        centred = one.positions - one.positions.mean(axis=0)
        moved = other.positions - other.positions.mean(axis=0)
        rotation, _ = Rotation.align_vectors(centred, moved)
        step, there = rotation.apply(moved) - centred, rotation.apply(there)
    if np.sqrt(np.mean(np.sum(step**2, axis=1))) > FARTHEST:
        return None
    ends = -float(np.sum(forces * step)), -float(np.sum(there * step))
    work = sum(ends) / 2
    if abs(ends[0] - ends[1]) > CURVED * abs(work):
        return None
    return float(second.labels["energy"] - first.labels["energy"]), work


def comparable(first: Labelled, second: Labelled) -> bool:
    """Whether two structures have the same atoms in the same order and cell, and the labels."""
    one, other = first.atoms, second.atoms
    return (
        len(one) > 1
        and all({"energy", "forces"} <= labelled.labels.keys() for labelled in (first, second))
        and np.array_equal(one.numbers, other.numbers)
        and np.array_equal(one.pbc, other.pbc)
        and (not any(one.pbc) or np.allclose(one.cell, other.cell, atol=1e-6))
    )


def close_pairs(survey: Survey) -> Iterator[tuple[Labelled, Labelled]]:
    """Pairs of the sample that are likely close: one behind the other, and next in shape."""
    groups: dict[tuple[str, bool], list[Labelled]] = {}
    for labelled in survey.structures:
        atoms: Atoms = labelled.atoms
        groups.setdefault((atoms.get_chemical_formula(), any(atoms.pbc)), []).append(labelled)
    yield from survey.steps
    for members in groups.values():
        if len(members) > 1:
            prints = [fingerprint(member.atoms, pairs_of(member.atoms)) for member in members]
            index, distance = nearest(np.array(prints), within=FARTHEST)
            for row in np.flatnonzero(np.isfinite(distance)):
                yield members[row], members[index[row]]


def force_energy_slope(survey: Survey) -> tuple[float, float, int]:
    """Slope and correlation of ΔE over the work of the forces, and how many pairs told it."""
    found = [work_between(*pair) for pair in close_pairs(survey)]
    changes, works = np.array([pair for pair in found if pair is not None]).reshape(-1, 2).T
    if len(works) < ENOUGH:
        return np.nan, np.nan, len(works)
    return *proportion(changes, works), len(works)
