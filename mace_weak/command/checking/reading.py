"""What the host that trains would read as something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from mace_weak.command.atomic_energies import counts_of, elements_of
from mace_weak.command.checking.survey import Survey
from mace_weak.command.frames import Keys
from mace_weak.command.output import Finding
from mace_weak.misread import Problem, misread_by_mace, no_forces, same_forces


def misread_labels(survey: Survey, keys: Keys) -> Iterator[Finding]:
    """Labels of any host that stand in the wrong place, or are no labels."""
    if survey.misplaced:
        yield Finding(
            f"{survey.path}: the forces of {len(survey.misplaced)} structures stand in the comment "
            f"line (info; the first is {survey.misplaced[0]}, counted from 0), where no host looks",
            f"write '{keys.forces}' as a column of the atoms (atoms.arrays)",
            wrong=True,
        )
    forces = [one.labels["forces"] for one in survey.structures if "forces" in one.labels]
    for problem, wrong in ((no_forces(forces), False), (same_forces(forces), True)):
        if problem is not None:
            yield _finding(survey, problem, wrong=wrong)


def misread_where_mace_reads(survey: Survey, keys: Keys, *, dtype: str) -> Iterator[Finding]:
    """What MACE's reader makes of the file, and of its energies in this precision."""
    missing = {"energy": survey.count - survey.labels["energy"]}
    if survey.labels["forces"]:
        alone = len(survey.isolated_atoms)
        missing["forces"] = max(0, survey.count - alone - survey.labels["forces"])
    if survey.misspelt:
        yield Finding(
            f"{survey.path}: {survey.misspelt} isolated atoms have a config_type that MACE takes "
            "for structures to train on",
            "write config_type=IsolatedAtom",
        )
    known = [one for one in survey.structures if "energy" in one.labels and one.bound]
    if not known and survey.isolated_atoms:
        yield Finding(
            f"{survey.path}: there are isolated atoms alone, and nothing to train on",
            "add structures",
            wrong=True,
        )
    frames = [one.atoms for one in known]
    elements = elements_of(frames)
    for problem in misread_by_mace(
        missing,
        asdict(keys),
        survey.isolated_atoms,
        elements=elements,
        counts=counts_of(frames, elements),
        totals=np.array([float(one.labels["energy"]) for one in known]),
        dtype=dtype,
    ):
        yield _finding(survey, problem, wrong=True)


def _finding(survey: Survey, problem: Problem, *, wrong: bool) -> Finding:
    return Finding(f"{survey.path}: {problem.what}", problem.mend, wrong=wrong)
