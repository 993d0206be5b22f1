"""Test errors: a table, and predicted against reference forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from tables import markdown_table

from mace_weak.command.judging.slopes import force_slope


@dataclass(frozen=True)
class Errors:
    """Energy errors (meV/atom), and predicted and reference force components (eV/Å).

    ``stress`` are the errors of its components (meV/Å³) where it is labelled and predicted.
    """

    energy: np.ndarray
    predicted: np.ndarray
    reference: np.ndarray
    stress: np.ndarray

    @property
    def energy_rmse(self) -> float:
        """In meV/atom, after the mean error is taken off: a level of theory has its own zero."""
        return float(np.std(self.energy))

    @property
    def force_rmse(self) -> float:
        """In meV/Å."""
        return float(1e3 * np.sqrt(np.mean((self.predicted - self.reference) ** 2)))

    @property
    def stress_rmse(self) -> float | None:
        """In meV/Å³; None without labels."""
        return float(np.sqrt(np.mean(self.stress**2))) if self.stress.size else None

    @property
    def slope(self) -> float:
        """Of predicted against reference forces: below 1, the surface is too soft."""
        return force_slope([self.predicted], [self.reference])


def errors_of(frames: Sequence[Atoms]) -> Errors:
    """Errors of structures that carry predictions and labels."""
    energy = [
        1e3 * (atoms.info["predicted_energy"] - atoms.info["REF_energy"]) / len(atoms)
        for atoms in frames
    ]
    stress = [
        1e3 * (np.ravel(atoms.info["predicted_stress"]) - np.ravel(atoms.info["REF_stress"]))
        for atoms in frames
        if "REF_stress" in atoms.info and "predicted_stress" in atoms.info
    ]
    return Errors(
        np.array(energy),
        np.concatenate([atoms.arrays["predicted_forces"].ravel() for atoms in frames]),
        np.concatenate([atoms.arrays["REF_forces"].ravel() for atoms in frames]),
        np.array(stress),
    )


def errors_table(errors: dict[str, Errors]) -> str:
    """A row for each model."""
    rows = [
        [name, f"{error.energy_rmse:.1f}", f"{error.force_rmse:.0f}", f"{error.slope:.2f}"]
        for name, error in errors.items()
    ]
    return markdown_table(["model", "energy, meV/atom", "forces, meV/Å", "force slope"], rows)


def draw_parity(errors: dict[str, Errors], path: Path) -> None:
    """Predicted against reference force components, a panel for each model."""
    columns = min(len(errors), 4)
    rows = -(-len(errors) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.4 * columns, 3.9 * rows),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    limit = 1.05 * max(float(np.abs(error.reference).max()) for error in errors.values())
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, error) in zip(axes.flat, errors.items(), strict=False):
        axis.set_axis_on()
        axis.plot([-limit, limit], [-limit, limit], color="0.6", linewidth=1, zorder=0)
        size = 4 if len(error.reference) > 500 else 16
        axis.scatter(error.reference, error.predicted, s=size, alpha=0.3, linewidths=0)
        axis.set_title(f"{name}\nforce RMSE {error.force_rmse:.0f} meV/Å", fontsize=10)
        axis.set_xlim(-limit, limit)
        axis.set_ylim(-limit, limit)
        axis.set_aspect("equal")
    figure.supxlabel("reference force component, eV/Å")
    figure.supylabel("predicted, eV/Å")
    figure.tight_layout()
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
