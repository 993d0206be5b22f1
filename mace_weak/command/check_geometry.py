"""Comparisons between structures: duplicates, leaks between files, forces against energies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.spatial.transform import Rotation

from mace_weak.command.output import Finding
from mace_weak.command.survey import Kind, Labelled, Survey, fingerprint, nearest, pairs_of
from mace_weak.compositions import proportion

SAME = 1e-3  # Å, root mean square difference of the distances between atoms
LEAK = 1e-2  # Å; vibrations at room temperature move atoms by 0.1 Å
CONTRADICTION = 1e-3  # eV/atom, between energies of one geometry
FARTHEST = 0.3  # Å, root mean square displacement between two structures that are compared
CURVED = 0.5  # of the work: where the forces of both ends disagree by more, it is too inaccurate
ENOUGH = 5  # pairs
TOLERANCE = 0.2  # of the slope, for the curvature that the mean of two forces leaves out


def duplicates(survey: Survey) -> Iterator[Finding]:
    """Structures of a file with the same distances, and those of them with different energies."""
    first, second = [], []
    for group in survey.groups.values():
        if len(group.numbers) > 1:
            numbers = np.array(group.numbers)
            index, distance = nearest(np.array(group.fingerprints), within=SAME)
            same = np.isfinite(distance)
            first.append(numbers[same])
            second.append(numbers[index[same]])
    copies = np.concatenate(first) if first else np.empty(0, int)
    if not len(copies):
        return
    other = np.concatenate(second)
    yield Finding(
        f"{survey.path}: {len(copies)} of {survey.count} structures are duplicates (such as "
        f"{copies[0]} and {other[0]}, counted from 0), perhaps rotated or mirrored",
        "remove them: they count double, and a random split puts them on both sides",
    )
    energies = np.array(survey.energies) / np.array(survey.sizes)
    apart = np.abs(energies[copies] - energies[other])
    if np.nanmax(apart, initial=0.0) > CONTRADICTION:
        worst = int(np.nanargmax(apart))
        yield Finding(
            f"{survey.path}: structures {copies[worst]} and {other[worst]} are the same, and their "
            f"energies differ by {1e3 * apart[worst]:.3g} meV/atom",
            "use energies of one level of theory, converged",
        )


def leaks(train: Survey, other: Survey) -> Iterator[Finding]:
    """Structures of ``other`` that are close to one of ``train``."""
    found: list[tuple[float, int, int]] = []
    for key, group in other.groups.items():
        if key in train.groups:
            known = train.groups[key]
            index, distance = nearest(
                np.array(group.fingerprints), np.array(known.fingerprints), within=LEAK
            )
            close = np.flatnonzero(np.isfinite(distance))
            found += [
                (float(distance[row]), group.numbers[row], known.numbers[index[row]])
                for row in close
            ]
    if found:
        closest, here, there = min(found)
        yield Finding(
            f"{len(found)} of {other.count} structures of {other.path} are within {LEAK:g} Å of "
            f"one of {train.path} (structures {here} and {there}: {closest:.2g} Å)",
            "split by distance, or by trajectory: errors on them are no measure for new structures",
        )


def work_between(first: Labelled, second: Labelled) -> tuple[float, float] | None:
    """ΔE, and the work −½⟨F + F′, r′ − r⟩ on the way between two close structures, eV.

    None where they are too far apart, or differ in atoms, cell or labels.
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
    """Pairs of the sample that are likely close: consecutive ones, and nearest in shape."""
    groups: dict[Kind, list[Labelled]] = {}
    for labelled in survey.structures:
        atoms: Atoms = labelled.atoms
        groups.setdefault(Kind.of(atoms), []).append(labelled)
    yield from survey.steps
    for members in groups.values():
        if len(members) > 1:
            prints = [fingerprint(member.atoms, pairs_of(member.atoms)) for member in members]
            index, distance = nearest(np.array(prints), within=FARTHEST)
            for row in np.flatnonzero(np.isfinite(distance)):
                yield members[row], members[index[row]]


def force_energy_slope(survey: Survey) -> tuple[float, float, int]:
    """Slope and correlation of ΔE over the work of the forces, and the number of pairs."""
    found = [work_between(*pair) for pair in close_pairs(survey)]
    changes, works = np.array([pair for pair in found if pair is not None]).reshape(-1, 2).T
    if len(works) < ENOUGH:
        return np.nan, np.nan, len(works)
    return *proportion(changes, works), len(works)


def inconsistent_forces(slope: float, correlation: float) -> Iterator[Finding]:
    """Forces that are not the negative gradient of the energies."""
    if np.isnan(slope):
        return
    if correlation < -1 + TOLERANCE:
        yield Finding(
            f"energies rise along the forces (slope {slope:.2f} between close structures)",
            "change the sign of the forces: they are −∂E/∂r, not the gradient",
            wrong=True,
        )
    elif correlation < 1 - TOLERANCE:
        yield Finding(
            f"forces and energies do not belong together (correlation {correlation:.2f} between "
            "close structures)",
            "take both from one calculation, and the energy without the entropy of smearing only "
            "if the forces are its gradient",
        )
    elif abs(slope - 1) > TOLERANCE:
        yield Finding(
            f"energies change by {slope:.3g} times the work of the forces",
            "convert both to eV and eV/Å",
            wrong=True,
        )
