"""Pictures of a model's errors and of its energy surface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mace_weak.command.judging.dynamics import Trajectory
from mace_weak.command.judging.evaluation import Judged, forces_of
from mace_weak.command.judging.slopes import force_slope

COLOURS = ("#7f7f7f", "#d95f02", "#1b9e77")  # of the models, in their order
MANY = 2000  # points, from which they are drawn small


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each model: the last one, which is judged, has the same in all pictures."""
    return dict(zip(reversed(names), reversed(COLOURS), strict=False))


def parity(models: Mapping[str, Sequence[Judged]]) -> Figure:
    """Predicted against reference forces, and energies per atom, for each model."""
    colours = colours_of(list(models))
    figure = Figure(figsize=(4.2 * len(models), 8), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, sharex="row", sharey="row")
    for column, (name, structures) in enumerate(models.items()):
        predicted, reference = forces_of(structures)
        if predicted:
            slope = force_slope(predicted, reference)
            own, labels = (np.concatenate(part).ravel() for part in (predicted, reference))
            scatter(axes[0, column], labels, own, colours[name])
            axes[0, column].set_title(f"{name}\nforce slope {slope:.3f}")
        axes[0, column].set_xlabel("reference force, eV/Å")
        labels, own = centred_energies(structures)
        scatter(axes[1, column], labels, own, colours[name])
        axes[1, column].set_xlabel("reference energy − mean, meV/atom")
    axes[0, 0].set_ylabel("predicted force, eV/Å")
    axes[1, 0].set_ylabel("predicted energy − mean, meV/atom")
    return figure


def centred_energies(structures: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Reference and predicted energies, each without its mean, meV/atom (n_labelled,)."""
    pairs = np.array(
        [
            (structure.labels["energy"] / size, structure.prediction.energy / size)
            for structure in structures
            if "energy" in structure.labels
            for size in (len(structure.atoms),)
        ]
    ).reshape(-1, 2)
    reference, predicted = (
        1e3 * (pairs - pairs.mean(axis=0, keepdims=True)).T if len(pairs) else pairs.T
    )
    return reference, predicted


def scatter(axis: Axes, reference: np.ndarray, predicted: np.ndarray, colour: str) -> None:
    """Points about the diagonal."""
    size = 3 if len(reference) > MANY else 10
    axis.scatter(reference, predicted, s=size, alpha=0.35, linewidths=0, color=colour)
    axis.axline((0, 0), slope=1, color="0.3", linewidth=0.8, zorder=0)
    axis.grid(alpha=0.2)


def taylor(curves: Mapping[str, Mapping[float, float]]) -> Figure:
    """Residual of the Taylor expansion against the length of the displacement."""
    colours = colours_of([name for name in curves if not name.startswith("difference")])
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        lengths, residuals = zip(*curve.items(), strict=True)
        axis.loglog(lengths, residuals, marker="o", color=colours.get(name, "#7570b3"), label=name)
    axis.set_xticks(lengths, [f"{length:g}" for length in lengths], minor=False)
    axis.minorticks_off()
    axis.set_xlabel("displacement of an atom, Å")
    axis.set_ylabel("Taylor residual, meV/atom")
    axis.grid(alpha=0.2)
    axis.legend(frameon=False)
    return figure


def energy_drift(trajectories: Mapping[str, Trajectory]) -> Figure:
    """Total energy in molecular dynamics at constant energy."""
    colours = colours_of(list(trajectories))
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for name, found in trajectories.items():
        change = 1e3 * (found.energies - found.energies[0]) / found.n_atoms
        label = f"{name}{', a bond broke' if found.failed else ''}"
        axis.plot(found.times, change, color=colours[name], label=label)
    axis.set_xlabel("time, ps")
    axis.set_ylabel("total energy − start, meV/atom")
    axis.grid(alpha=0.2)
    axis.legend(frameon=False)
    return figure
