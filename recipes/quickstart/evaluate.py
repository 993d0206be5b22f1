"""Test errors: predictions, a table, and predicted against reference forces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress

from mace_weak.command import model_errors
from mace_weak.command.model_errors import Errors, Predicted
from mace_weak.command.models import load_model, predict
from mace_weak.errors import WeakLossError
from mace_weak.structures import Prediction
from recipes.quickstart.processes import LOADING
from recipes.quickstart.tables import markdown_table


def predicted(model: str, structures: Path, *, device: str) -> list[Atoms]:
    """The structures of a file with ``predicted_energy`` (eV) and ``predicted_forces`` (eV/Å).

    And ``predicted_stress`` (3, 3) in eV/Å³ of those that are periodic.

    Raises:
        SystemExit: if the model cannot be read, or does not know an element.
    """
    frames = read(structures, ":")
    try:
        with LOADING:
            found = list(predict(load_model(model, device=device), frames))
    except WeakLossError as error:
        raise SystemExit(str(error)) from error
    for atoms, one in zip(frames, found, strict=True):
        atoms.info["predicted_energy"] = one.energy
        atoms.arrays["predicted_forces"] = one.forces
        if one.stress is not None:
            atoms.info["predicted_stress"] = voigt_6_to_full_3x3_stress(one.stress)
    return frames


def errors_of(frames: Sequence[Atoms]) -> Errors:
    """Errors of structures that carry predictions and labels."""
    return model_errors.errors_of([with_labels(atoms) for atoms in frames])


def with_labels(atoms: Atoms) -> Predicted:
    """A structure's labels and predictions; stresses of nine components, or of six."""
    stress = atoms.info.get("predicted_stress")
    labels = {
        "energy": np.array(atoms.info["REF_energy"]),
        "forces": atoms.arrays["REF_forces"],
    }
    if "REF_stress" in atoms.info:
        labels["stress"] = np.ravel(atoms.info["REF_stress"])
    prediction = Prediction(
        energy=atoms.info["predicted_energy"],
        forces=atoms.arrays["predicted_forces"],
        stress=None if stress is None else np.ravel(stress),
    )
    return Predicted(atoms, labels, prediction)


def errors_table(errors: dict[str, Errors]) -> str:
    """A row for each model."""
    rows = [
        [
            name,
            f"{error.energy_rmse_about_mean:.1f}",
            f"{error.force_rmse:.0f}",
            f"{error.slope:.2f}",
        ]
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
    references = {name: np.concatenate(error.reference).ravel() for name, error in errors.items()}
    limit = 1.05 * max(float(np.abs(reference).max()) for reference in references.values())
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, error) in zip(axes.flat, errors.items(), strict=False):
        axis.set_axis_on()
        axis.plot([-limit, limit], [-limit, limit], color="0.6", linewidth=1, zorder=0)
        reference, forces = references[name], np.concatenate(error.predicted).ravel()
        size = 4 if len(reference) > 500 else 16
        axis.scatter(reference, forces, s=size, alpha=0.3, linewidths=0)
        axis.set_title(f"{name}\nforce RMSE {error.force_rmse:.0f} meV/Å", fontsize=10)
        axis.set_xlim(-limit, limit)
        axis.set_ylim(-limit, limit)
        axis.set_aspect("equal")
    figure.supxlabel("reference force component, eV/Å")
    figure.supylabel("predicted, eV/Å")
    figure.tight_layout()
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
