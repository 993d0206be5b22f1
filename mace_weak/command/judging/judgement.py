"""The judgement of a model: tables, findings and a page with pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mace_weak.command.atomic_energies import over_composition
from mace_weak.command.frames import Keys, evenly, isolated, labelled_frames, require_named_labels
from mace_weak.command.judging.dynamics import Trajectory, constant_energy
from mace_weak.command.judging.evaluation import (
    Judged,
    energy_errors,
    error_tables,
    force_differences,
    forces_of,
    judged,
    rmse,
)
from mace_weak.command.judging.page import write_page
from mace_weak.command.judging.pictures import energy_drift, parity, taylor
from mace_weak.command.judging.slopes import force_slope, slope_spread
from mace_weak.command.judging.surface import by_length, loop_work, taylor_residuals
from mace_weak.command.models import Model, load_model, predict
from mace_weak.command.output import Finding, Result, Table
from mace_weak.command.progress import progress
from mace_weak.errors import WeakLossError

CERTAIN = 3.0  # standard errors from which a slope is too far from 1
SOFT = 0.05  # of the slope: less does not matter
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


def judge(model: str, before: str | None, test: Path, settings: Settings) -> Result:
    """All tables and findings, and the page that shows them; isolated atoms are left out.

    Raises:
        WeakLossError: if nothing is left, or a label that was named is nowhere.
    """
    frames = [atoms for _, atoms, _ in labelled_frames(test, settings.keys) if not isolated(atoms)]
    if not frames:
        raise WeakLossError(f"'{test}' has isolated atoms alone: give structures to judge by")
    require_named_labels(frames, settings.keys, test)
    models = {
        name: load_model(path, device=settings.device, dtype=settings.dtype)
        for name, path in (("before", before), ("model", model))
        if path is not None
    }
    found = {
        name: judged(
            frames,
            progress(predict(loaded, frames), f"{name}: errors", total=len(frames)),
            settings.keys,
        )
        for name, loaded in models.items()
    }
    result = Result(tables=error_tables(found, settings.type_key))
    result.findings += unlabelled(found["model"], settings.keys)
    result.findings += soft(found["model"])
    if "before" in found:
        result.findings += worse(found["model"], found["before"])
    pictures = {"parity": parity(found)}
    probes = evenly(frames, settings.probes)
    if probes:
        pictures["Taylor residuals"] = probe(models, probes, settings.seed, result)
    if settings.steps:
        pictures["dynamics"] = run_dynamics(models, found["model"], settings, result)
    title = f"{model} on {test}" + (f", before: {before}" if before else "")
    result.written += write_page(settings.out, title, result.tables, result.findings, pictures)
    return result


def unlabelled(structures: Sequence[Judged], keys: Keys) -> Iterator[Finding]:
    """Nothing to measure errors by."""
    if not any(structure.labels for structure in structures):
        yield Finding(
            f"no structure has a label under the keys '{keys.energy}', '{keys.forces}' and "
            f"'{keys.stress}': there are no errors to tell",
            "name them with --energy-key, --forces-key and --stress-key",
        )


def soft(structures: Sequence[Judged]) -> Iterator[Finding]:
    """A slope of the forces that is surely not 1."""
    predicted, reference = forces_of(structures)
    slope, spread = force_slope(predicted, reference), slope_spread(predicted, reference)
    if abs(slope - 1) > max(SOFT, CERTAIN * spread):
        what = "soft" if slope < 1 else "stiff"
        yield Finding(
            f"the model is too {what}: predicted forces are {slope:.3f}"
            + ("" if np.isnan(spread) else f" ± {spread:.3f}")
            + " of the reference",
            "add a structure of high energy with forces to the training (mace-weak soften)",
        )


def worse(structures: Sequence[Judged], before: Sequence[Judged]) -> Iterator[Finding]:
    """Errors that grew by the fine-tuning."""
    own, old = (rmse(force_differences(*forces_of(each))) for each in (structures, before))
    if own > old:
        yield Finding(
            f"the force error grew from {old:.4g} to {own:.4g} meV/Å",
            "train with --loss=weak_taylor, or at a lower learning rate",
        )
    *_, own = energy_errors(structures)  # without their mean
    *_, old = energy_errors(before)
    if own > old:
        yield Finding(
            f"the energy error, without its mean, grew from {old:.4g} to {own:.4g} meV/atom",
            "give more energies, or train at a lower learning rate",
        )


def probe(
    models: Mapping[str, Model], frames: Sequence[Atoms], seed: int, result: Result
) -> Figure:
    """Taylor residuals and closed paths: adds their tables and findings, returns the picture."""
    residuals = {
        name: taylor_residuals(frames, model.calculator, seed=seed)
        for name, model in models.items()
    }
    if "before" in models:
        residuals["difference of both"] = residuals["model"] - residuals["before"]
    curves = {name: by_length(own) for name, own in residuals.items()}
    lengths = next(iter(curves.values()))
    columns = ("of", *(f"{length:g} Å" for length in lengths))
    rows = [[name, *curve.values()] for name, curve in curves.items()]
    result.tables.append(Table("Taylor residuals, meV/atom", columns, rows))
    rows = []
    for name, model in models.items():
        work, scale = loop_work(frames, model.calculator, seed=seed)
        rows.append([name, work, scale])
        if work > CONSERVATIVE * scale:
            result.findings.append(
                Finding(
                    f"{name}: its forces do work around closed paths, {work:.3g} meV/atom, "
                    f"{100 * work / scale:.2g} % of the work along them",
                    "take a model whose forces are the gradient of its energy, or --dtype float64",
                )
            )
    columns = ("model", "around closed paths", "along them")
    result.tables.append(Table("Work of the forces, meV/atom", columns, rows))
    return taylor(curves)


def lowest(structures: Sequence[Judged]) -> Atoms:
    """The structure of lowest energy per atom, over what its composition explains."""
    frames = [structure.atoms for structure in structures]
    energies = [structure.prediction.energy for structure in structures]
    return frames[int(np.argmin(over_composition(frames, energies)))]


def run_dynamics(
    models: Mapping[str, Model], structures: Sequence[Judged], settings: Settings, result: Result
) -> Figure:
    """A short run at constant energy: adds its table and findings, returns the picture."""
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
                    "the model has a hole there: label structures of this trajectory",
                )
            )
    rows = [[name, run.time, run.failed, run.drift] for name, run in trajectories.items()]
    columns = ("model", "time, ps", "a bond broke", "drift, meV/atom/ps")
    result.tables.append(Table(f"Dynamics, {settings.temperature:g} K", columns, rows))
    return energy_drift(trajectories)
