"""Error bars beside a model of ``mace-weak finetune``: their file, and whether they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mace_weak.command.model_errors import Predicted, rmse
from mace_weak.command.models import Model, Parametric, finetuning_host, load_model
from mace_weak.command.output import Finding, Table, progress
from mace_weak.errors import WeakLossError
from mace_weak.tangent.error_bars import ErrorBars, Spread
from mace_weak.tangent.fit import Tangent

SUFFIX = ".error_bars.npz"
ROUNDING = 1e-9  # of the largest bar
FAR = 2.0  # ratio of errors to their bars that is reported
COVERED = (1.0, 2.0)  # standard deviations
EXPECTED = ("68 %", "95 %")  # of normal errors within them
COLUMNS = (
    "of", "n", "RMSE", "expected", "RMSE / expected",
    *(f"within {width:g} σ ({share})" for width, share in zip(COVERED, EXPECTED, strict=True)),
    "negative log likelihood",
)  # fmt: skip


def file_of(model: Path) -> Path:
    """Where the error bars of a model file are."""
    return model.with_name(model.name + SUFFIX)


def digest_of(path: Path) -> str:
    """A digest of the content of a file, which no other content has."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_error_bars(path: Path, tangent: Tangent, foundation: Parametric, *, device: str) -> Path:
    """Write those of a model file that learned from a tangent model; returns the file."""
    model = str(path)
    successor = finetuning_host(model).parametric_model(load_model(model, device=device), [])
    bars = ErrorBars.of(tangent, foundation, successor)
    bars.save(file_of(path), mark=digest_of(path))
    return file_of(path)


def load_error_bars(model: str) -> ErrorBars | None:
    """Those beside a model file, or None.

    Raises:
        WeakLossError: if the file there is of another model.
    """
    path = file_of(Path(model))
    return ErrorBars.load(path, mark=digest_of(Path(model))) if path.is_file() else None


def require_error_bars(model: str) -> ErrorBars:
    """Those beside a model file.

    Raises:
        WeakLossError: if there are none.
    """
    found = load_error_bars(model)
    if found is None:
        raise WeakLossError(
            f"there is no '{file_of(Path(model))}': error bars are written by mace-weak finetune, "
            "where it solves in closed form"
        )
    return found


class Estimator:
    """Error bars of a model file, which is loaded as ``saved``, on structures.

    What does not depend on the structures is prepared once.
    """

    def __init__(self, model: str, saved: Model, bars: ErrorBars) -> None:
        self.host = finetuning_host(model)
        self.saved = saved
        self.model: Parametric = self.host.parametric_model(saved, [])
        self.bars = bars.on(self.model)

    def spreads(self, frames: Sequence[Atoms], *, forces: bool = True) -> Iterator[Spread]:
        """Standard deviations for structures in their order."""
        model = self.model.on(self.host.graphs_of(self.saved, frames))
        bars, counts = self.bars.on(model), model.counts
        for number in range(len(frames)):
            yield bars.spread(number, counts[number], forces=forces)


@dataclass(frozen=True)
class Calibration:
    """Standard deviations (n,) and errors (n,), NaN where there is no label, both in one unit."""

    errors: np.ndarray
    spreads: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Calibration:
        """Of errors and bars, without bars that are infinite, or zero by symmetry and rounding."""
        if not pairs:
            return cls(np.empty(0), np.empty(0))
        errors, spreads = (np.concatenate(part) for part in zip(*pairs, strict=True))
        finite = np.isfinite(spreads)
        known = finite & (spreads > ROUNDING * np.max(spreads, where=finite, initial=0.0))
        return cls(errors[known], spreads[known])

    @property
    def labelled(self) -> Calibration:
        """Where there are labels."""
        known = np.isfinite(self.errors)
        return Calibration(self.errors[known], self.spreads[known])

    @property
    def ratio(self) -> float:
        """Root mean square of the errors over that of the bars."""
        known = self.labelled
        return rmse(known.errors) / rmse(known.spreads) if len(known.errors) else float("nan")

    def within(self, width: float) -> float:
        """Share of the errors that are within so many standard deviations."""
        known = self.labelled
        inside = np.abs(known.errors) <= width * known.spreads
        return float(np.mean(inside)) if len(inside) else float("nan")

    @property
    def negative_log_likelihood(self) -> float:
        """Mean over the errors, of normal distributions with these standard deviations."""
        known = self.labelled
        squares = (known.errors / known.spreads) ** 2
        each = np.log(known.spreads) + (squares + np.log(2 * np.pi)) / 2
        return float(np.mean(each)) if len(each) else float("nan")


def calibrations(
    structures: Sequence[Predicted], spreads: Sequence[Spread]
) -> dict[str, Calibration]:
    """Of energies (meV/atom) and components of forces (meV/Å)."""
    energies: list[tuple[np.ndarray, np.ndarray]] = []
    forces: list[tuple[np.ndarray, np.ndarray]] = []
    for one, spread in zip(structures, spreads, strict=True):
        scale = 1e3 / len(one.atoms)
        error = one.prediction.energy - float(one.labels.get("energy", np.nan))
        energies.append((np.array([scale * error]), np.array([scale * spread.energy])))
        if spread.forces is not None:
            labels = one.labels.get("forces", np.full(spread.forces.shape, np.nan))
            differences = one.prediction.forces - labels
            forces.append((1e3 * differences.ravel(), 1e3 * spread.forces.ravel()))
    return {
        "energies, meV/atom": Calibration.of(energies),
        "forces, meV/Å": Calibration.of(forces),
    }


def judged(
    model: str, saved: Model, bars: ErrorBars, structures: Sequence[Predicted]
) -> dict[str, Calibration]:
    """How the error bars of a model hold on structures."""
    frames = [one.atoms for one in structures]
    spreads = Estimator(model, saved, bars).spreads(frames)
    return calibrations(structures, list(progress(spreads, "error bars", total=len(frames))))


def calibration_table(found: dict[str, Calibration]) -> Table:
    """Bars, and the errors beside them where there are labels."""
    rows = [
        [name, len(one.spreads), rmse(one.labelled.errors), rmse(one.spreads), one.ratio,
         *(one.within(width) for width in COVERED), one.negative_log_likelihood]
        for name, one in found.items()
    ]  # fmt: skip
    return Table("Error bars", COLUMNS, rows)


def doubtful(found: dict[str, Calibration]) -> Iterator[Finding]:
    """Error bars that are too small."""
    for name, one in found.items():
        what = name.partition(",")[0]
        if one.ratio > FAR:
            yield Finding(
                f"the errors of {what} are {one.ratio:.2g} times their error bars: these "
                "structures are unlike the labelled ones or of another zero of energy, a linear "
                "correction cannot give these labels, or the model was distilled in too few steps",
                "label some of these structures too, or raise --steps if you lowered it",
            )
