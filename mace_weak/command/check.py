"""``mace-weak check``: training data, before they are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mace_weak.command.check_foundation import (
    ENERGY_UNITS,
    Comparison,
    all_electron_energy,
    check_energies,
    check_forces,
    compare,
    unit_of,
    unsuitable_model,
)
from mace_weak.command.check_geometry import (
    duplicates,
    force_energy_slope,
    inconsistent_forces,
    leaks,
)
from mace_weak.command.check_labels import (
    label_findings,
    misread_by_maces_reader,
    misread_labels,
    other_labels,
    unread_weights,
    unused_labels,
)
from mace_weak.command.models import Model
from mace_weak.command.output import Finding, Result, Table
from mace_weak.command.propose import Subject, suitable_displacement, training_command
from mace_weak.command.survey import Survey
from mace_weak.compositions import elements_of, fit_elements
from mace_weak.structures import Keys
from mace_weak.versions import MACE, NEQUIP

OVERLAP = 0.5  # Å, shorter than any bond
STRONG = 50.0  # eV/Å, stronger than in any structure worth a label


def check_data(
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
    result.findings += file_findings(surveys, keys, reader)
    if reader == MACE:
        dtype = model.dtype if model else "float32"
        for survey in surveys[: 2 if valid else 1]:
            result.findings += misread_by_maces_reader(survey, keys, dtype=dtype)
    result.findings += split_findings(train, others)
    slope, correlation, pairs = force_energy_slope(train)
    result.findings += inconsistent_forces(slope, correlation)
    comparison = None
    if model is not None:
        result.findings += unsuitable_model(model, surveys)
        if train.elements <= set(model.elements):
            comparison = compare(model, train)
    if comparison is not None:
        result.findings += [*check_forces(comparison), *check_energies(comparison)]
    if comparison is None or "eV" not in comparison.readings:
        result.findings += total_energies_in_another_unit(train)
    result.tables += energy_tables(train, model, comparison)
    result.tables.append(scales(train, slope, correlation, pairs))
    if train.isolated_atoms and reader == MACE:
        result.notes.append(
            "MACE takes the energies of the atoms from the isolated atoms and ignores --E0s."
        )
    subject = Subject(
        train=train, valid=valid, foundation=foundation, model=model, comparison=comparison,
        keys=keys, device=device,
    )  # fmt: skip
    result.notes.append(training_command(subject))
    return result


def file_findings(surveys: Sequence[Survey], keys: Keys, reader: str) -> Iterator[Finding]:
    """Findings about each file by itself; ``surveys`` begin with the training file."""
    for survey in surveys:
        yield from label_findings(survey, keys, reader)
        yield from misread_labels(survey, keys)
        yield from size_findings(survey)
        yield from duplicates(survey)
    yield from unused_labels(surveys[0], reader)
    yield from unread_weights(surveys[0], reader)
    if reader == NEQUIP:
        yield from other_labels(surveys[0], keys)


def split_findings(train: Survey, others: Sequence[Survey]) -> Iterator[Finding]:
    """Findings about the split into training, validation and test."""
    for other in others:
        yield from leaks(train, other)
        yield from unknown_elements(train, other)
    if len(others) == 2:
        yield from leaks(others[0], others[1])


def contents(surveys: Sequence[Survey]) -> Table:
    """What each file holds."""
    rows = [
        [
            survey.path.name, survey.count, len({kind.formula for kind in survey.groups}),
            min(survey.sizes), max(survey.sizes),
            *(survey.labels[name] for name in ("energy", "forces", "stress")),
        ]
        for survey in surveys
    ]  # fmt: skip
    columns = ("file", "structures", "formulas", "fewest atoms", "most atoms")
    return Table("Files", (*columns, "with energy", "with forces", "with stress"), rows)


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
            "remove them if they are few; if they are most, convert the forces to eV/Å",
        )


def unknown_elements(train: Survey, other: Survey) -> Iterator[Finding]:
    """Elements that the training structures lack."""
    missing = other.elements - train.elements
    if missing:
        yield Finding(
            f"{other.path} contains {', '.join(sorted(missing))}, which {train.path} does not",
            "add structures with these elements to the training",
        )


def total_energies_in_another_unit(train: Survey) -> Iterator[Finding]:
    """Energies that look like all-electron energies in another unit than eV.

    Not in Rydberg: energies of the valence electrons in eV are as large.
    """
    frames = [(one.atoms.get_chemical_symbols(), one.labels["energy"]) for one in train.labelled]
    expected = [sum(map(all_electron_energy, symbols)) for symbols, _ in frames]
    ratios = [float(energy) / one for (_, energy), one in zip(frames, expected, strict=True) if one]
    if not ratios or np.ptp(ratios) > abs(np.median(ratios)):
        return
    units = {name: size for name, size in ENERGY_UNITS.items() if name != "Rydberg"}
    unit = unit_of(float(np.median(ratios)), units)
    if unit not in (None, "eV"):
        light = train.elements <= set(chemical_symbols[: atomic_numbers["Ne"] + 1])
        yield Finding(
            f"{train.path}: the energies look like total energies in {unit}",
            "convert them to eV"
            if light
            else "convert them to eV, unless they are without core electrons and in eV already",
            wrong=light,
        )


def energy_tables(train: Survey, model: Model | None, comparison: Comparison | None) -> list[Table]:
    """The energies of the atoms, fitted to the sample and from elsewhere, and the residuals."""
    known = [one for one in train.labelled if one.bound]
    if not known:
        return []
    frames = [structure.atoms for structure in known]
    fit = fit_elements(frames, [float(structure.labels["energy"]) for structure in known])
    fitted = fit.by_element(elements_of(frames))
    ambiguous = "" if fit.unique else "; these formulas do not determine them one by one"
    rows = [["fitted atoms alone", fit.rmse]]
    if comparison is not None:
        rows.append(["foundation, atoms shifted", comparison.shift.rmse])
    return [
        Table(
            f"Energies of the atoms (E0s), eV{ambiguous}",
            ("element", "foundation", "shift to these labels", "isolated atoms", "fitted"),
            element_rows(train, model, comparison, fitted),
        ),
        Table("Energies beyond the atoms, RMS", ("after", "meV/atom"), rows),
    ]


def element_rows(
    train: Survey,
    model: Model | None,
    comparison: Comparison | None,
    fitted: Mapping[str, float],
) -> list[list[str | float | None]]:
    """The energies of the atoms from all sources, by element."""
    of_model = (model.atomic_energies if model else None) or {}
    shifts = comparison.shifts if comparison else {}
    sources = (of_model, shifts, train.isolated_atoms, fitted)
    return [[symbol, *(one.get(symbol) for one in sources)] for symbol in sorted(train.elements)]


def scales(train: Survey, slope: float, correlation: float, pairs: int) -> Table:
    """Lengths, forces, and how forces and energies agree."""
    rows: list[list[Any]] = [
        ["shortest distance, Å", min(train.shortest)],
        ["suitable displacement, Å", suitable_displacement(train)],
        ["largest force, eV/Å", max(filter(np.isfinite, train.largest_forces), default=np.nan)],
        ["energies per coordinate of the atoms", train.labels["energy"] / train.coordinates],
        ["close pairs of structures", pairs],
        ["their energies against the work of the forces, slope", slope],
        ["the same, correlation", correlation],
    ]
    return Table("Scales", ("quantity", "value"), [row for row in rows if np.isfinite(row[1])])
