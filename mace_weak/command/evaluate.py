"""``mace-weak evaluate``: errors of a model and tests of its surface; a page with figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mace_weak.command.error_bars import (
    calibration_table,
    doubtful,
    judged,
    load_error_bars,
)
from mace_weak.command.figures import coverage, energy_drift, parity, taylor, write_page
from mace_weak.command.model_errors import Predicted, error_tables, errors_of, predict_all
from mace_weak.command.models import Model, load_model
from mace_weak.command.output import Finding, Result, Table, progress, time_table, timed
from mace_weak.command.surface import (
    Trajectory,
    by_length,
    constant_energy,
    loop_work,
    taylor_residuals,
)
from mace_weak.compositions import fit_elements
from mace_weak.errors import WeakLossError
from mace_weak.misread import float32_steps
from mace_weak.structures import Keys, evenly, is_isolated_atom, read_labelled, require_structures

CERTAIN = 3.0  # standard errors from which a slope is too far from 1
SOFT = 0.05  # of the slope: less does not matter
COARSE = 0.1  # meV/atom
CONSERVATIVE = 0.01  # work around a closed path, of that along it


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of ``mace-weak evaluate``."""

    keys: Keys
    type_key: str
    probes: int
    temperature: float
    steps: int
    seed: int
    device: str
    dtype: str
    out: Path


def evaluate_model(model: str, before: str | None, test: Path, settings: Settings) -> Result:
    """All tables and findings, and the page that shows them; isolated atoms are left out.

    Raises:
        WeakLossError: if no structures are left, or none has a label whose key was given.
    """
    labelled = read_labelled(test, settings.keys)
    frames = [atoms for _, atoms, _ in labelled if not is_isolated_atom(atoms)]
    require_structures(frames, test)
    require_given_labels(frames, settings.keys, test)
    models = {
        name: load_model(path, device=settings.device, dtype=settings.dtype)
        for name, path in (("before", before), ("model", model))
        if path is not None
    }
    seconds: dict[str, float] = {}
    with timed(seconds, "errors"):
        found = predict_all(models, frames, settings.keys)
    result = Result(tables=error_tables(found, settings.type_key))
    result.findings += unlabelled(found["model"], settings.keys)
    result.findings += partial_stress(models["model"], found["model"])
    result.findings += slabs(found["model"])
    result.findings += coarse(models["model"], found["model"])
    result.findings += soft(found["model"])
    if "before" in found:
        result.findings += worse(found["model"], found["before"])
    figures = {"parity": parity(found)}
    bars = load_error_bars(model)
    if bars is not None and settings.probes:
        with timed(seconds, "error bars"):
            chosen = evenly(found["model"], settings.probes)
            calibration = judged(model, models["model"], bars, chosen)
        result.tables.append(calibration_table(calibration))
        result.findings += doubtful(calibration)
        if any(len(one.labelled.errors) for one in calibration.values()):
            figures["error bars"] = coverage(calibration)
    probes = evenly(frames, settings.probes)
    if probes:
        with timed(seconds, "probes"):
            figures["Taylor residuals"] = probe(models, probes, settings.seed, result)
    several = [one for one in found["model"] if len(one.atoms) > 1]  # an atom alone does not move
    if settings.steps and several:
        with timed(seconds, "dynamics"):
            figures["dynamics"] = run_dynamics(models, several, settings, result)
    result.tables.append(time_table(seconds))
    title = f"{model} on {test}" + (f", before: {before}" if before else "")
    result.written += write_page(settings.out, title, result.tables, result.findings, figures)
    return result


def require_given_labels(frames: Sequence[Atoms], keys: Keys, path: Path) -> None:
    """Check that some structure has each label whose key is not the default one.

    Raises:
        WeakLossError: if none has.
    """
    for field in fields(keys):
        key = getattr(keys, field.name)
        given = key != getattr(Keys(), field.name)
        if given and all(keys.label(atoms, field.name) is None for atoms in frames):
            raise WeakLossError(
                f"no structure of '{path}' has the {field.name} '{key}': name another key by "
                f"--{field.name}-key"
            )


def unlabelled(structures: Sequence[Predicted], keys: Keys) -> Iterator[Finding]:
    """No labels to measure errors by."""
    if not any(structure.labels for structure in structures):
        yield Finding(
            f"no structure has a label under the keys '{keys.energy}', '{keys.forces}' and "
            f"'{keys.stress}', so there are no errors",
            "give them by --energy-key, --forces-key and --stress-key",
        )


def partial_stress(model: Model, structures: Sequence[Predicted]) -> Iterator[Finding]:
    """Stress labels, and a model whose stress is that of a part of its energy."""
    if not model.stress_is_whole and any("stress" in one.labels for one in structures):
        yield Finding(
            "the host computes the stress of this long-range model without the long-range part",
            "do not use it: take the energies of strained cells",
        )


def slabs(structures: Sequence[Predicted]) -> Iterator[Finding]:
    """Stress labels of structures that are not periodic in all directions."""
    left_out = sum("stress" in one.labels and not all(one.atoms.pbc) for one in structures)
    if left_out:
        yield Finding(
            f"the stress of {left_out} structures that are not periodic in all three directions is "
            "left out",
            "a stress needs a volume: compare their forces",
        )


def coarse(model: Model, structures: Sequence[Predicted]) -> Iterator[Finding]:
    """Total energies that single precision rounds by as much as the errors to be seen."""
    if not model.rounds_totals:
        return
    energies = np.array([one.prediction.energy for one in structures])
    sizes = np.array([len(one.atoms) for one in structures])
    step = 1e3 * float(np.max(float32_steps(energies) / sizes))
    if step > COARSE:
        yield Finding(
            f"the model is of float32, which rounds these total energies by {step:.2g} meV/atom: "
            "Taylor residuals, drift and energy errors of this size are rounding",
            "evaluate with --dtype float64",
        )


def soft(structures: Sequence[Predicted]) -> Iterator[Finding]:
    """A slope of the forces that differs from 1 with certainty."""
    errors = errors_of(structures)
    slope, uncertainty = errors.slope, errors.slope_error
    if abs(slope - 1) > max(SOFT, CERTAIN * uncertainty):
        what = "soft" if slope < 1 else "stiff"
        yield Finding(
            f"the model is too {what}: predicted forces are {slope:.3f}"
            + ("" if np.isnan(uncertainty) else f" ± {uncertainty:.3f}")
            + " of the reference",
            "add a structure of high energy with forces to the training",
        )


def worse(structures: Sequence[Predicted], before: Sequence[Predicted]) -> Iterator[Finding]:
    """Errors that grew by the fine-tuning."""
    new, old = errors_of(structures), errors_of(before)
    if new.force_rmse > old.force_rmse:
        yield Finding(
            f"the force error grew from {old.force_rmse:.4g} to {new.force_rmse:.4g} meV/Å",
            "train with --loss=weak_taylor, or at a lower learning rate",
        )
    if new.energy_rmse_about_mean > old.energy_rmse_about_mean:
        yield Finding(
            f"the energy error, without its mean, grew from {old.energy_rmse_about_mean:.4g} to "
            f"{new.energy_rmse_about_mean:.4g} meV/atom",
            "give more energies, or train at a lower learning rate",
        )


def probe(
    models: Mapping[str, Model], frames: Sequence[Atoms], seed: int, result: Result
) -> Figure:
    """Taylor residuals and closed paths: adds their tables and findings, returns the figure."""
    residuals = {
        name: taylor_residuals(frames, model.predictions, seed=seed)
        for name, model in models.items()
    }
    if "before" in models:
        residuals["difference of both"] = residuals["model"] - residuals["before"]
    curves = {name: by_length(values) for name, values in residuals.items()}
    lengths = next(iter(curves.values()))
    columns = ("of", *(f"{length:g} Å" for length in lengths))
    rows = [[name, *curve.values()] for name, curve in curves.items()]
    result.tables.append(Table("Taylor residuals, meV/atom", columns, rows))
    rows = []
    for name, model in models.items():
        work, scale = loop_work(frames, model.predictions, seed=seed)
        rows.append([name, work, scale])
        if work > CONSERVATIVE * scale:
            result.findings.append(
                Finding(
                    f"{name}: its forces do work around closed paths, {work:.3g} meV/atom, "
                    f"{100 * work / scale:.2g} % of the work along them",
                    "use a model whose forces are the gradient of its energy, or --dtype float64",
                )
            )
    columns = ("model", "around closed paths", "along them")
    result.tables.append(Table("Work of the forces, meV/atom", columns, rows))
    return taylor(curves)


def lowest(structures: Sequence[Predicted]) -> Atoms:
    """The structure of lowest energy per atom, beyond what its composition explains."""
    frames = [structure.atoms for structure in structures]
    energies = [structure.prediction.energy for structure in structures]
    return frames[int(np.argmin(fit_elements(frames, energies).residuals))]


def run_dynamics(
    models: Mapping[str, Model], structures: Sequence[Predicted], settings: Settings, result: Result
) -> Figure:
    """A short run at constant energy: adds its table and findings, returns the figure."""
    start = lowest(structures)
    trajectories: dict[str, Trajectory] = {}
    for name, model in progress(models.items(), "dynamics", total=len(models)):
        trajectories[name] = constant_energy(
            start, model.calculator, temperature=settings.temperature, steps=settings.steps,
            seed=settings.seed,
        )  # fmt: skip
        if trajectories[name].failed:
            result.findings.append(
                Finding(
                    f"{name}: a bond broke after {trajectories[name].time:.3g} ps at "
                    f"{settings.temperature:g} K",
                    "the model is wrong there: label structures of this trajectory",
                )
            )
    rows = [[name, run.time, run.failed, run.drift] for name, run in trajectories.items()]
    columns = ("model", "time, ps", "a bond broke", "drift, meV/atom/ps")
    result.tables.append(Table(f"Dynamics, {settings.temperature:g} K", columns, rows))
    return energy_drift(trajectories)
