"""Errors of a model on labelled structures: in all, by configuration type and by element."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from mace_weak.command.frames import Keys, finite
from mace_weak.command.judging.slopes import force_slope, slope_spread
from mace_weak.command.models import Prediction
from mace_weak.command.output import Table

ALL = "all"


@dataclass(frozen=True)
class Judged:
    """One structure with its labels and a model's prediction."""

    atoms: Atoms
    labels: dict[str, np.ndarray]
    prediction: Prediction

    @cached_property
    def energy_error(self) -> float:
        """In meV/atom, prediction minus label; NaN without a label."""
        return float(1e3 * (self.prediction.energy - self.labels.get("energy", np.nan))) / len(
            self.atoms
        )

    @cached_property
    def stress_error(self) -> np.ndarray:
        """In meV/Å³ (6,); empty where one of both is missing."""
        if "stress" not in self.labels or self.prediction.stress is None:
            return np.empty(0)
        return 1e3 * (self.prediction.stress - self.labels["stress"])


def judged(frames: Iterable[Atoms], predictions: Iterable[Prediction], keys: Keys) -> list[Judged]:
    """Structures with labels and predictions, in order; NaN says that a label is missing."""
    return [
        Judged(atoms, finite(keys.labels(atoms)), prediction)
        for atoms, prediction in zip(frames, predictions, strict=True)
    ]


def rmse(values: np.ndarray) -> float:
    """Root mean square; NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else np.nan


def mae(values: np.ndarray) -> float:
    """Mean absolute value; NaN of nothing."""
    return float(np.mean(np.abs(values))) if values.size else np.nan


def forces_of(
    structures: Sequence[Judged], symbol: str | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predicted and reference forces of each structure that has labels, (n_atoms, 3) in eV/Å.

    With ``symbol`` on the atoms of this element alone.
    """
    predicted, reference = [], []
    for structure in structures:
        if "forces" in structure.labels:
            chosen = slice(None) if symbol is None else structure.atoms.symbols == symbol
            predicted.append(structure.prediction.forces[chosen])
            reference.append(structure.labels["forces"][chosen])
    return predicted, reference


def force_differences(
    predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray]
) -> np.ndarray:
    """Components of the differences (n,), meV/Å."""
    parts = [(own - other).ravel() for own, other in zip(predicted, reference, strict=True)]
    return 1e3 * np.concatenate(parts) if parts else np.empty(0)


def error_tables(models: Mapping[str, Sequence[Judged]], type_key: str) -> list[Table]:
    """Errors of each model in energies, forces and stress: of all, by type and by element."""
    parts = [
        (name, label, own)
        for name, structures in models.items()
        for label, own in by_type(structures, type_key).items()
    ]
    energies = [[name, label, *energy_errors(own)] for name, label, own in parts]
    forces = [[name, label, *force_errors(*forces_of(own))] for name, label, own in parts]
    for name, structures in models.items():
        symbols = sorted({symbol for one in structures for symbol in one.atoms.symbols})
        forces += [
            [name, symbol, *force_errors(*forces_of(structures, symbol))] for symbol in symbols
        ]
    stresses = [[name, label, *stress_errors(own)] for name, label, own in parts]
    columns = ("model", "of", "n", "RMSE", "MAE")
    tables = [
        Table("Energies, meV/atom", (*columns, "RMSE about mean"), energies),
        Table("Forces, meV/Å", ("model", "of", "atoms", "RMSE", "MAE", "slope", "±"), forces),
        Table("Stress, meV/Å³", columns, stresses),
    ]
    return [table for table in tables if any(row[2] for row in table.rows)]


def by_type(structures: Sequence[Judged], type_key: str) -> dict[str, Sequence[Judged]]:
    """All structures, and those of each type of configuration if there are several."""
    types: dict[str, list[Judged]] = {}
    for structure in structures:
        label = str(structure.atoms.info.get(type_key, "no type"))
        types.setdefault(label, []).append(structure)
    return {ALL: structures, **types} if len(types) > 1 else {ALL: structures}


def energy_errors(structures: Sequence[Judged]) -> list[float]:
    """Number, RMSE, MAE and RMSE about the mean, as a level of theory has its own zero."""
    errors = np.array([structure.energy_error for structure in structures])
    errors = errors[~np.isnan(errors)]
    about_mean = float(np.std(errors)) if errors.size else np.nan
    return [len(errors), rmse(errors), mae(errors), about_mean]


def force_errors(predicted: list[np.ndarray], reference: list[np.ndarray]) -> list[float]:
    """Number of atoms, RMSE and MAE of the components, slope and its standard error."""
    errors = force_differences(predicted, reference)
    slope = force_slope(predicted, reference), slope_spread(predicted, reference)
    return [len(errors) // 3, rmse(errors), mae(errors), *slope]


def stress_errors(structures: Sequence[Judged]) -> list[float]:
    """Number of structures, RMSE and MAE of the components."""
    errors = [structure.stress_error for structure in structures if structure.stress_error.size]
    components = np.concatenate(errors) if errors else np.empty(0)
    return [len(errors), rmse(components), mae(components)]
