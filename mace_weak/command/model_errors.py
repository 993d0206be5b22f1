"""Errors of a model on labelled structures: in all, by configuration type and by element.

The slope of predicted against reference forces is below 1 where a potential is too soft: B. Deng et
al., "Systematic softening in universal machine learning interatomic potentials", 2024,
arXiv:2405.07105.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mace_weak.command.models import Model, predict
from mace_weak.command.output import Table, progress
from mace_weak.structures import Keys, Prediction, finite

ALL = "all"
Forces = Sequence[np.ndarray]


@dataclass(frozen=True)
class Predicted:
    """A structure with its labels and a model's prediction."""

    atoms: Atoms
    labels: Mapping[str, np.ndarray]
    prediction: Prediction


@dataclass(frozen=True)
class Errors:
    """Errors of a model on structures, each where it is labelled and predicted.

    ``energy`` (n_energies,) in meV/atom and ``stress`` (n_stresses, n_components) in meV/Å³ are
    predictions minus labels; ``predicted`` and ``reference`` forces (n_atoms, 3) of each structure
    in eV/Å.
    """

    energy: np.ndarray
    predicted: Forces
    reference: Forces
    stress: np.ndarray

    @property
    def energy_rmse(self) -> float:
        """In meV/atom."""
        return rmse(self.energy)

    @property
    def energy_mae(self) -> float:
        """In meV/atom."""
        return mae(self.energy)

    @property
    def energy_rmse_about_mean(self) -> float:
        """Without the mean error, as levels of theory differ in their zero, meV/atom."""
        return float(np.std(self.energy)) if self.energy.size else math.nan

    @property
    def force(self) -> np.ndarray:
        """Components of the force errors (n_components,), meV/Å."""
        pairs = zip(self.predicted, self.reference, strict=True)
        parts = [(forces - labels).ravel() for forces, labels in pairs]
        return 1e3 * np.concatenate(parts) if parts else np.empty(0)

    @property
    def force_rmse(self) -> float:
        """Of the components, meV/Å."""
        return rmse(self.force)

    @property
    def force_mae(self) -> float:
        """Of the components, meV/Å."""
        return mae(self.force)

    @property
    def stress_rmse(self) -> float | None:
        """Of the components, meV/Å³; None without labels."""
        return rmse(self.stress) if self.stress.size else None

    @property
    def stress_mae(self) -> float | None:
        """Of the components, meV/Å³; None without labels."""
        return mae(self.stress) if self.stress.size else None

    @property
    def slope(self) -> float:
        """Of predicted against reference forces."""
        return force_slope(self.predicted, self.reference)

    @property
    def slope_error(self) -> float:
        """Standard error of the slope."""
        return slope_error(self.predicted, self.reference)


def with_labels(
    frames: Iterable[Atoms], predictions: Iterable[Prediction], keys: Keys
) -> list[Predicted]:
    """Structures with their labels and predictions, in order; labels with NaN are missing."""
    return [
        Predicted(atoms, finite(keys.labels(atoms)), prediction)
        for atoms, prediction in zip(frames, predictions, strict=True)
    ]


def predict_all(
    models: Mapping[str, Model], frames: Sequence[Atoms], keys: Keys
) -> dict[str, list[Predicted]]:
    """Structures with their labels and the predictions of each model, by its name."""
    return {
        name: with_labels(
            frames, progress(predict(model, frames), f"{name}: errors", total=len(frames)), keys
        )
        for name, model in models.items()
    }


def errors_of(structures: Sequence[Predicted], symbol: str | None = None) -> Errors:
    """Errors on all structures; with ``symbol`` the forces are those on this element alone."""
    energies, predicted, reference, stresses = [], [], [], []
    for one in structures:
        labels, prediction = one.labels, one.prediction
        if "energy" in labels:
            energies.append(1e3 * float(prediction.energy - labels["energy"]) / len(one.atoms))
        if "forces" in labels:
            chosen = slice(None) if symbol is None else one.atoms.symbols == symbol
            predicted.append(prediction.forces[chosen])
            reference.append(labels["forces"][chosen])
        if "stress" in labels and prediction.stress is not None:
            stresses.append(1e3 * (prediction.stress - labels["stress"]))
    return Errors(np.array(energies), predicted, reference, np.array(stresses))


def rmse(values: np.ndarray) -> float:
    """Root mean square; NaN without values."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else math.nan


def mae(values: np.ndarray) -> float:
    """Mean absolute value; NaN without values."""
    return float(np.mean(np.abs(values))) if values.size else math.nan


def force_slope(predicted: Forces, reference: Forces) -> float:
    """Slope of the line through zero that fits predicted against reference forces best.

    Both are one array (n_atoms, 3) per structure, eV/Å. NaN where there is nothing to fit: no
    structures, or reference forces that are all zero.
    """
    products, squares = _sums(predicted, reference)
    return float(products.sum() / squares.sum()) if squares.sum() > 0 else math.nan


def slope_error(predicted: Forces, reference: Forces) -> float:
    """Standard error of ``force_slope`` from the scatter between structures.

    That of a ratio of two sums over structures, to first order what a bootstrap over structures
    gives; the forces within one structure are not independent, so they count together. Structures
    that follow each other in a trajectory are not independent either: it is too small for those.
    NaN with fewer than two structures.
    """
    products, squares = _sums(predicted, reference)
    count = len(products)
    if count < 2 or not squares.sum() > 0:
        return math.nan
    slope = products.sum() / squares.sum()
    scatter = ((products - slope * squares) ** 2).sum()
    return float(math.sqrt(scatter * count / (count - 1)) / squares.sum())


def _sums(predicted: Forces, reference: Forces) -> tuple[np.ndarray, np.ndarray]:
    """Σ p·r and Σ r·r of each structure: two arrays (n_structures,) in eV²/Å²."""
    pairs = list(zip(predicted, reference, strict=True))
    products = [float(np.vdot(forces, labels)) for forces, labels in pairs]
    squares = [float(np.vdot(labels, labels)) for _, labels in pairs]
    return np.array(products), np.array(squares)


def error_tables(models: Mapping[str, Sequence[Predicted]], type_key: str) -> list[Table]:
    """Errors of each model in energies, forces and stress: of all, by type and by element."""
    parts = [
        (name, kind, errors_of(of_kind))
        for name, structures in models.items()
        for kind, of_kind in by_type(structures, type_key).items()
    ]
    elements = [
        (name, symbol, errors_of(structures, symbol))
        for name, structures in models.items()
        for symbol in sorted({symbol for one in structures for symbol in one.atoms.symbols})
    ]
    energies = [
        [name, kind, len(one.energy), one.energy_rmse, one.energy_mae, one.energy_rmse_about_mean]
        for name, kind, one in parts
    ]
    forces = [
        [name, part, len(one.force) // 3, one.force_rmse, one.force_mae, one.slope, one.slope_error]
        for name, part, one in (*parts, *elements)
    ]
    stresses = [
        [name, kind, len(one.stress), one.stress_rmse, one.stress_mae] for name, kind, one in parts
    ]
    columns = ("model", "of", "n", "RMSE", "MAE")
    tables = [
        Table("Energies, meV/atom", (*columns, "RMSE about mean"), energies),
        Table("Forces, meV/Å", ("model", "of", "atoms", "RMSE", "MAE", "slope", "±"), forces),
        Table("Stress, meV/Å³", columns, stresses),
    ]
    return [table for table in tables if any(row[2] for row in table.rows)]


def by_type(structures: Sequence[Predicted], type_key: str) -> dict[str, Sequence[Predicted]]:
    """All structures, and those of each type of configuration if there are several."""
    types: dict[str, list[Predicted]] = {}
    for one in structures:
        types.setdefault(str(one.atoms.info.get(type_key, "no type")), []).append(one)
    return {ALL: structures, **types} if len(types) > 1 else {ALL: structures}
