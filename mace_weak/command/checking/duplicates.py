"""Structures that stand twice in a file, or in two files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mace_weak.command.checking.fingerprints import nearest
from mace_weak.command.checking.survey import Survey
from mace_weak.command.output import Finding

SAME = 1e-3  # Å, root mean square difference of the distances between atoms
LEAK = 1e-2  # Å; vibrations at room temperature move atoms by 0.1 Å
CONTRADICTION = 1e-3  # eV/atom, between energies of one geometry


def duplicates(survey: Survey) -> Iterator[Finding]:
    """Structures of a file whose distances are the same, and those whose energies contradict."""
    first, second = [], []
    for group in survey.groups.values():
        if len(group.numbers) > 1:
            numbers = np.array(group.numbers)
            index, distance = nearest(np.array(group.fingerprints), within=SAME)
            same = np.isfinite(distance)
            first.append(numbers[same])
            second.append(numbers[index[same]])
    twice = np.concatenate(first) if first else np.empty(0, int)
    if not len(twice):
        return
    other = np.concatenate(second)
    yield Finding(
        f"{survey.path}: {len(twice)} of {survey.count} structures stand there again (as "
        f"{twice[0]} and {other[0]}, counted from 0), perhaps rotated or mirrored",
        "remove them: they weigh double, and a random split puts them on both sides",
    )
    energies = np.array(survey.energies) / np.array(survey.sizes)
    apart = np.abs(energies[twice] - energies[other])
    if np.nanmax(apart, initial=0.0) > CONTRADICTION:
        worst = int(np.nanargmax(apart))
        yield Finding(
            f"{survey.path}: structures {twice[worst]} and {other[worst]} are the same, and their "
            f"energies differ by {1e3 * apart[worst]:.3g} meV/atom",
            "keep the energy of one level of theory, converged",
        )


def leaks(train: Survey, other: Survey) -> Iterator[Finding]:
    """Structures of ``other`` that are next to one of ``train``."""
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
            "split by distance, or by trajectory: errors on them say nothing of new structures",
        )
