"""What is wrong with the labels of a file, and what the program that reads it makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from mace_weak.command.output import Finding
from mace_weak.command.survey import Survey
from mace_weak.compositions import counts_of, elements_of
from mace_weak.misread import (
    ASE_KEYS,
    Problem,
    misread_by_mace,
    no_forces,
    same_energies,
    same_forces,
)
from mace_weak.structures import Keys
from mace_weak.versions import MACE, NEQUIP

FINETUNE = "mace-weak finetune"  # reads files itself, as a host does
# what happens where labels are missing, and how to train on stresses, by what reads the files
WITHOUT_ENERGY = {
    MACE: "or remove them: MACE does not fit them",
    NEQUIP: "or remove them: nequip stops there, unless they hold NaN and the loss has ignore_nan",
    FINETUNE: "if they have one: of the others it learns the forces, if there are any, and what "
    "the weak terms ask of them",
}
WITHOUT_FORCES = {
    MACE: "MACE's losses weighted, universal and stress allow this; huber fits the others to zero "
    "forces",
    NEQUIP: "nequip needs NaN in the others, and ignore_nan in the loss",
}
FOR_STRESS = {
    MACE: "add --weak_base_loss=stress (--loss=stress without weak terms) and a --stress_weight",
    NEQUIP: "map its key to stress, and give stress a coefficient in the loss",
    FINETUNE: "it learns from energies and forces; a training by the host can use stresses too",
}


def label_findings(survey: Survey, keys: Keys, reader: str) -> Iterator[Finding]:
    """Labels that are absent, NaN or infinite.

    MACE reads those that are absent under ASE's names as zero, which is another finding.
    """
    read_as_zero = ASE_KEYS if reader == MACE else ()
    missing = survey.count - survey.labels["energy"]
    if missing and keys.energy not in read_as_zero:
        yield Finding(
            f"{survey.path}: {missing} of {survey.count} structures have no energy under the key "
            f"'{keys.energy}'",
            f"name the key with --energy-key, {WITHOUT_ENERGY[reader]}",
        )
    for name, numbers in survey.bad.items():
        yield Finding(
            f"{survey.path}: the {name} of {len(numbers)} structures is NaN or infinite (the first "
            f"is {numbers[0]}, counted from 0)",
            "correct or remove them: a single one spoils a training",
            wrong=True,
        )
    some = survey.labels["forces"]
    partly = 0 < some < survey.count - len(survey.isolated_atoms)
    if partly and reader in WITHOUT_FORCES and keys.forces not in read_as_zero:
        yield Finding(
            f"{survey.path}: only {some} of {survey.count} structures have forces",
            WITHOUT_FORCES[reader],
        )


def misread_labels(survey: Survey, keys: Keys) -> Iterator[Finding]:
    """Labels that no host reads as they are meant: in the wrong place, all zero or all the same."""
    if survey.misplaced:
        yield Finding(
            f"{survey.path}: the forces of {len(survey.misplaced)} structures are in the comment "
            f"line (info; the first is {survey.misplaced[0]}, counted from 0), where no host looks",
            f"write '{keys.forces}' as a column of the atoms (atoms.arrays)",
            wrong=True,
        )
    energies = np.array(survey.energies)
    for group in survey.groups.values():
        if problem := same_energies(energies[group.numbers], np.array(group.fingerprints)):
            yield _finding(survey, problem, wrong=True)
    forces = [one.labels["forces"] for one in survey.structures if "forces" in one.labels]
    for problem, wrong in ((no_forces(forces), False), (same_forces(forces), True)):
        if problem is not None:
            yield _finding(survey, problem, wrong=wrong)


def misread_by_maces_reader(survey: Survey, keys: Keys, *, dtype: str) -> Iterator[Finding]:
    """Labels that MACE's reader misreads, and energies too large for the precision."""
    labels = survey.labels + survey.switched_off
    missing = {"energy": survey.count - labels["energy"]}
    if survey.labels["forces"]:
        alone = len(survey.isolated_atoms)
        missing["forces"] = max(0, survey.count - alone - labels["forces"])
    if survey.labels["stress"]:
        periodic = sum(len(one.numbers) for kind, one in survey.groups.items() if kind.periodic)
        missing["stress"] = max(0, periodic - labels["stress"])
    for problem, numbers in survey.unread.items():
        yield Finding(
            f"{survey.path}: structure {numbers[0]} (counted from 0; {len(numbers)} in all): "
            f"{problem.what}",
            problem.mend,
            wrong=True,
        )
    if survey.misspelt:
        yield Finding(
            f"{survey.path}: {survey.misspelt} isolated atoms have a config_type that MACE takes "
            "for structures to train on",
            "write config_type=IsolatedAtom",
        )
    if survey.unmarked:
        yield Finding(
            f"{survey.path}: {len(survey.unmarked)} atoms alone (the first is structure "
            f"{survey.unmarked[0]}, counted from 0) are not marked as isolated, and MACE trains on "
            "them as structures",
            "write config_type=IsolatedAtom, if they are the references of the atoms' energies",
        )
    known = [one for one in survey.labelled if one.bound]
    if not known and survey.isolated_atoms:
        yield Finding(
            f"{survey.path}: there are only isolated atoms, and nothing to train on",
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


def unused_labels(train: Survey, reader: str) -> Iterator[Finding]:
    """Labels that the proposed training does not learn from."""
    if known := train.labels["stress"]:
        yield Finding(
            f"{train.path}: the stress of {known} of {train.count} structures is not learned",
            FOR_STRESS[reader],
        )


def unread_weights(train: Survey, reader: str) -> Iterator[Finding]:
    """MACE's weights of structures and labels, where something else reads the file."""
    off = sum(train.switched_off.values())
    if off and reader == NEQUIP:
        yield Finding(
            f"{train.path}: {off} labels have the weight 0 (config_weight, config_energy_weight "
            "…), which nequip does not read",
            "remove these labels, or write NaN and set ignore_nan in the loss",
            wrong=True,
        )
    if train.weighted and reader != MACE:
        yield Finding(
            f"{train.path}: {len(train.weighted)} structures (the first is {train.weighted[0]}, "
            "counted from 0) have weights of MACE (config_weight, config_energy_weight …), which "
            f"{reader} does not read",
            "all labels count alike; to weigh them, train by mace_run_train",
        )


def other_labels(train: Survey, keys: Keys) -> Iterator[Finding]:
    """ASE's own labels beside those of the keys, which nequip prefers."""
    if train.others:
        yield Finding(
            f"{train.path}: {len(train.others)} structures (the first is {train.others[0]}, "
            "counted from 0) have other labels under ASE's own names than under "
            f"'{keys.energy}' and '{keys.forces}', and nequip takes ASE's",
            "leave them out by exclude_keys in data, as the configuration of the call below does",
        )
