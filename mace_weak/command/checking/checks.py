"""What ``mace-weak check`` looks at, one question after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mace_weak.command.atomic_energies import CompositionFit, fit_composition
from mace_weak.command.checking.advice import training_command
from mace_weak.command.checking.consistency import TOLERANCE, force_energy_slope
from mace_weak.command.checking.duplicates import duplicates, leaks
from mace_weak.command.checking.foundation_checks import (
    Comparison,
    compare,
    misfits,
    unlike_energies,
    unlike_forces,
)
from mace_weak.command.checking.reading import misread_labels, misread_where_mace_reads
from mace_weak.command.checking.subject import Subject, suitable_displacement
from mace_weak.command.checking.survey import Survey
from mace_weak.command.checking.units import ENERGY_UNITS, all_electron_energy, unit_of
from mace_weak.command.frames import Keys
from mace_weak.command.models import Model
from mace_weak.command.output import Finding, Result, Table
from mace_weak.misread import ASE_KEYS
from mace_weak.versions import MACE, NEQUIP

FINETUNE = "mace-weak finetune"  # reads files itself, as a host does
# where labels are missing, and how stresses would be trained on, by who reads the files
WITHOUT_ENERGY = {
    MACE: "MACE fits nothing there",
    NEQUIP: "nequip stops there, unless they hold NaN and the loss has ignore_nan",
    FINETUNE: "it learns nothing from them",
}
WITHOUT_FORCES = {
    MACE: "with MACE's losses weighted, universal and stress this is fine; huber fits the others "
    "to zero forces",
    NEQUIP: "nequip wants NaN in the others, and ignore_nan in the loss",
}
FOR_STRESS = {
    MACE: "add --weak_base_loss=stress (--loss=stress without weak terms) and a --stress_weight",
    NEQUIP: "map its key to stress, and give stress a coefficient in the loss",
    FINETUNE: "it learns from energies and forces; a training by the host can use stresses too",
}
OVERLAP = 0.5  # Å, shorter than any bond
STRONG = 50.0  # eV/Å, a force that no structure worth its label has


def checked(
    train: Survey,
    valid: Survey | None,
    test: Survey | None,
    *,
    foundation: str | None,
    model: Model | None,
    keys: Keys,
    device: str,
    reader: str = MACE,
) -> Result:
    """Tables, findings and a training command for the files; ``model`` is the foundation's.

    ``reader`` is the host whose trainer reads the files, or ``mace-weak finetune``.
    """
    others = [survey for survey in (valid, test) if survey is not None]
    surveys = [train, *others]
    result = Result(tables=[contents(surveys)])
    dtype = model.dtype if model else "float32"
    for survey in surveys:
        result.findings += label_findings(survey, keys, reader)
        result.findings += misread_labels(survey, keys)
        result.findings += size_findings(survey)
        result.findings += duplicates(survey)
    result.findings += unused(train, reader)
    if reader == MACE:
        for survey in surveys[: 2 if valid else 1]:
            result.findings += misread_where_mace_reads(survey, keys, dtype=dtype)
    for other in others:
        result.findings += [*leaks(train, other), *strangers(train, other)]
    if len(others) == 2:
        result.findings += leaks(others[0], others[1])
    slope, correlation, pairs = force_energy_slope(train)
    result.findings += inconsistent(slope, correlation)
    comparison = None
    if model is not None:
        result.findings += misfits(model, surveys)
        if train.elements <= set(model.elements):
            comparison = compare(model, train)
    if comparison is not None:
        result.findings += [*unlike_forces(comparison), *unlike_energies(comparison)]
    if comparison is None or "eV" not in comparison.readings():
        result.findings += foreign_energies(train)
    fit = fitted(train)
    if fit is not None:
        result.tables += [element_table(train, fit, model, comparison), left_table(fit, comparison)]
    subject = Subject(
        train=train, valid=valid, foundation=foundation, model=model, comparison=comparison,
        keys=keys, device=device,
    )  # fmt: skip
    result.tables.append(scales(train, slope, correlation, pairs))
    if train.isolated_atoms and reader == MACE:
        result.notes.append(
            "MACE takes the energies of the atoms from the isolated atoms, whatever --E0s says."
        )
    result.notes.append(training_command(subject))
    return result


def contents(surveys: Sequence[Survey]) -> Table:
    """What each file holds."""
    rows = [
        [
            survey.path.name, survey.count, len(survey.groups), min(survey.sizes),
            max(survey.sizes), *(survey.labels[name] for name in ("energy", "forces", "stress")),
        ]
        for survey in surveys
    ]  # fmt: skip
    columns = ("file", "structures", "formulas", "fewest atoms", "most atoms")
    return Table("Files", (*columns, "with energy", "with forces", "with stress"), rows)


def label_findings(survey: Survey, keys: Keys, reader: str) -> Iterator[Finding]:
    """Labels that are absent, or no numbers.

    MACE reads those that are absent under ASE's own names as zero, which is another finding.
    """
    own = ASE_KEYS if reader == MACE else ()
    missing = survey.count - survey.labels["energy"]
    if missing and keys.energy not in own:
        yield Finding(
            f"{survey.path}: {missing} of {survey.count} structures have no energy under the key "
            f"'{keys.energy}'",
            f"name the key with --energy-key, or remove them: {WITHOUT_ENERGY[reader]}",
        )
    for name, numbers in survey.bad.items():
        yield Finding(
            f"{survey.path}: the {name} of {len(numbers)} structures is NaN or infinite (the first "
            f"is {numbers[0]}, counted from 0)",
            "mend or remove them: one is enough to spoil a training",
            wrong=True,
        )
    some = survey.labels["forces"]
    partly = 0 < some < survey.count - len(survey.isolated_atoms)
    if partly and reader in WITHOUT_FORCES and keys.forces not in own:
        yield Finding(
            f"{survey.path}: only {some} of {survey.count} structures have forces",
            WITHOUT_FORCES[reader],
        )


def unused(train: Survey, reader: str) -> Iterator[Finding]:
    """Labels that no proposed training learns from."""
    if known := train.labels["stress"]:
        yield Finding(
            f"{train.path}: the stress of {known} of {train.count} structures is not learned",
            FOR_STRESS[reader],
        )


def size_findings(survey: Survey) -> Iterator[Finding]:
    """Atoms on top of each other, and forces that are too strong."""
    shortest = np.array(survey.shortest)
    if shortest.min() < OVERLAP:
        yield Finding(
            f"{survey.path}: {int(np.sum(shortest < OVERLAP))} structures have atoms closer than "
            f"{OVERLAP:g} Å (structure {int(shortest.argmin())}: {shortest.min():.2g} Å)",
            "remove them, or convert the positions to Å",
        )
    forces = np.array(survey.largest_forces)
    strongest = np.nanmax(forces, initial=0.0)
    if strongest > STRONG:
        yield Finding(
            f"{survey.path}: {int(np.sum(forces > STRONG))} structures have forces above "
            f"{STRONG:g} eV/Å (up to {strongest:.3g})",
            "remove them if they are rare; if most are so, convert the forces to eV/Å",
        )


def strangers(train: Survey, other: Survey) -> Iterator[Finding]:
    """Elements that the training does not have."""
    missing = other.elements - train.elements
    if missing:
        yield Finding(
            f"{other.path} has {', '.join(sorted(missing))}, and {train.path} has not",
            "put some of each element into the training",
        )


def inconsistent(slope: float, correlation: float) -> Iterator[Finding]:
    """Forces that are not the slopes of the energies."""
    if np.isnan(slope):
        return
    if correlation < -1 + TOLERANCE:
        yield Finding(
            f"energies rise along the forces (slope {slope:.2f} between close structures)",
            "turn the sign of the forces: they are −∂E/∂r, not the gradient",
            wrong=True,
        )
    elif correlation < 1 - TOLERANCE:
        yield Finding(
            f"forces and energies do not belong together (correlation {correlation:.2f} between "
            "close structures)",
            "take both from one calculation, and the energy without the smearing's entropy only "
            "if the forces are its slope",
        )
    elif abs(slope - 1) > TOLERANCE:
        yield Finding(
            f"energies change by {slope:.3g} times the work of the forces",
            "bring both to eV and eV/Å",
            wrong=True,
        )


def foreign_energies(train: Survey) -> Iterator[Finding]:
    """Energies that look like all-electron energies in another unit than eV."""
    ratios = [
        float(structure.labels["energy"])
        / sum(all_electron_energy(symbol) for symbol in structure.atoms.get_chemical_symbols())
        for structure in train.structures
        if "energy" in structure.labels
    ]
    if not ratios or np.ptp(ratios) > abs(np.median(ratios)):
        return
    unit = unit_of(float(np.median(ratios)), ENERGY_UNITS)
    if unit not in (None, "eV"):
        light = train.elements <= set(chemical_symbols[: atomic_numbers["Ne"] + 1])
        yield Finding(
            f"{train.path}: the energies look like total energies in {unit}",
            "convert them to eV"
            if light
            else "convert them to eV, unless they are without core electrons and in eV already",
            wrong=light,
        )


def fitted(train: Survey) -> CompositionFit | None:
    """The atoms' energies fitted to the sample's own energies."""
    known = [structure for structure in train.structures if "energy" in structure.labels]
    if not known:
        return None
    energies = np.array([float(structure.labels["energy"]) for structure in known])
    frames = [structure.atoms for structure in known]
    return fit_composition(frames, energies, sorted(train.elements))


def element_table(
    train: Survey, fit: CompositionFit, model: Model | None, comparison: Comparison | None
) -> Table:
    """The energies of the atoms from all sources."""
    own = (model.atomic_energies if model else None) or {}
    shift = comparison.shift.energies if comparison else {}
    rows = [
        [
            symbol, own.get(symbol), shift.get(symbol), train.isolated_atoms.get(symbol),
            fit.energies[symbol],
        ]
        for symbol in sorted(train.elements)
    ]  # fmt: skip
    columns = ("element", "foundation", "shift to these labels", "isolated atoms", "fitted")
    ambiguous = "" if fit.unique else "; these formulas do not determine them one by one"
    return Table(f"Energies of the atoms (E0s), eV{ambiguous}", columns, rows)


def left_table(fit: CompositionFit, comparison: Comparison | None) -> Table:
    """What the energies of the atoms leave to be learned."""
    rows: list[list[str | float]] = [["fitted atoms alone", fit.rmse]]
    if comparison is not None:
        rows.append(["foundation, atoms shifted", comparison.shift.rmse])
    return Table("What is left of the energies", ("after", "meV/atom"), rows)


def scales(train: Survey, slope: float, correlation: float, pairs: int) -> Table:
    """Lengths, forces and how they go together."""
    rows: list[list[Any]] = [
        ["shortest distance, Å", min(train.shortest)],
        ["displacement that suits the bonds, Å", suitable_displacement(train)],
        ["largest force, eV/Å", max(train.largest_forces)],
        ["energies for each coordinate of the atoms", train.labels["energy"] / train.coordinates],
        ["close pairs of structures", pairs],
        ["their energies over the work of the forces, slope", slope],
        ["the same, correlation", correlation],
    ]
    return Table("Scales", ("quantity", "value"), [row for row in rows if np.isfinite(row[1])])
