"""Trainings, as the logs of MACE and of nequip describe them."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mace_weak.errors import WeakLossError
from mace_weak.losses import TERMS
from mace_weak.versions import MACE, NEQUIP

SUPERVISED = "supervised"
ENERGY, FORCES = "energy", "forces"
WEAK = (*TERMS, FORCES)  # the last is that of a tangent anchor
BEFORE = -1  # the epoch of a validation before the first one

Curve = Mapping[int, float]  # by epoch, in order
Row = Mapping[str, Any]  # of a log, with its "epoch"

MACE_RESULTS = "*_run-*_train.txt"
MACE_ERRORS = {ENERGY: "rmse_e_per_atom", FORCES: "rmse_f"}
MACE_PLANNED = re.compile(r"\bmax_num_epochs=(\d+)")
STAGE_TWO = "Changing loss based on Stage Two Weights"
STOPPED = "Stopping optimization after"

NEQUIP_RESULTS = "metrics.csv"
VERSION = re.compile(r"version_(\d+)$")
# of an epoch nequip logs the mean over its structures; of the steps, by default, some only
EPOCH, STEP, VALIDATION = "train_loss_epoch/", "train_loss_step/", "val0_epoch/"
TOTAL = "weighted_sum"
NEQUIP_ERRORS = {ENERGY: "per_atom_energy_rmse", FORCES: "forces_rmse"}
CONFIGURATION = Path(".hydra") / "config.yaml"
NEQUIP_PLANNED = re.compile(r"^ *max_epochs: (\d+)", re.MULTILINE)
STOPPERS = re.compile(r"EarlyStopping|^ *max_(?:steps|time): (?!null|-1)", re.MULTILINE)
REWEIGHTING = re.compile(r"LossCoefficient|SoftAdapt")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Curves by epoch.

    ``losses`` are means of an epoch of the parts of the loss: ``supervised``, and ``taylor``,
    ``spatial`` and the ``forces`` of a tangent anchor as they were added to it; a loss without weak
    terms is all supervised.
    ``validation`` is what the host chooses the model by, in its units. ``errors`` are RMSE in
    validation: ``energy`` in meV/atom, ``forces`` in meV/Å.
    """

    root: Path
    name: str
    host: str
    losses: Mapping[str, Curve]
    validation: Curve
    errors: Mapping[str, Curve]
    planned: int | None  # epochs, if the log has their number
    may_stop: bool  # before the planned epochs, by a stopping rule
    reweighted: bool  # the loss changed its weights on the way
    weak_time: float | None  # share of the steps' time
    superseded: int  # epochs that a later start repeated

    @property
    def epochs(self) -> int:
        """Up to the last one."""
        return max(self.losses[SUPERVISED], default=-1) + 1

    @property
    def weak(self) -> list[str]:
        """The weak terms in the log."""
        return [name for name in WEAK if self.losses.get(name)]

    @property
    def best(self) -> int | None:
        """Epoch of the best validation."""
        finite = {epoch: value for epoch, value in self.validation.items() if value == value}
        return min(finite, key=lambda epoch: finite[epoch], default=None)


class NotBegunError(WeakLossError):
    """A training without a step in its log yet: what is wrong, and what to do."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(f"{problem}: {mend}")
        self.problem, self.mend = problem, mend


def read_trainings(paths: Iterable[Path]) -> tuple[list[Training], list[NotBegunError]]:
    """All trainings in the folders and files, under distinct names, and what has not begun.

    Raises:
        WeakLossError: if one has no log of MACE or nequip, a log cannot be read, or none has begun.
    """
    found, not_begun = [], []
    for read in (read for path in paths for read in readers_of(path)):
        try:
            found.append(read())
        except NotBegunError as error:
            not_begun.append(error)
    if not found:
        raise not_begun[0]
    return with_distinct_names(found), not_begun


def readers_of(path: Path) -> list[Callable[[], Training]]:
    """What reads each training in a folder and the folders within it, or in one log file.

    Raises:
        WeakLossError: if there is none.
    """
    path = path.resolve()
    if path.is_file():
        of_nequip = path.suffix == ".csv"
        return [partial(read_nequip, [path]) if of_nequip else partial(read_mace, path)]
    found: list[Callable[[], Training]] = [
        partial(read_mace, file) for file in sorted(path.rglob(MACE_RESULTS))
    ]
    versions: dict[Path, list[Path]] = {}
    for file in path.rglob(NEQUIP_RESULTS):
        versioned = VERSION.search(file.parent.name)
        versions.setdefault(file.parent.parent if versioned else file.parent, []).append(file)
    found += [
        partial(read_nequip, sorted(files, key=version_of)) for _, files in sorted(versions.items())
    ]
    if not found:
        raise WeakLossError(
            f"'{path}' has no log: looked in it and below for MACE's results/"
            f"{MACE_RESULTS}, and for the {NEQUIP_RESULTS} that nequip writes with "
            "Lightning's CSVLogger (trainer.logger._target_: "
            "lightning.pytorch.loggers.CSVLogger)"
        )
    return found


def version_of(file: Path) -> int:
    """Number of a CSVLogger's version, which is one start of a training."""
    version = VERSION.search(file.parent.name)
    return int(version[1]) if version else 0


def with_distinct_names(trainings: Sequence[Training]) -> list[Training]:
    """The same, named by the shortest ends of their paths that are distinct.

    Of several trainings in one folder the name of each is added.
    """
    roots = [training.root for training in trainings]
    length = next(
        length
        for length in range(1, max(len(root.parts) for root in roots) + 1)
        if len({root.parts[-length:] for root in roots}) == len(set(roots))
    )
    names = [Path(*root.parts[-length:]) for root in roots]
    return [
        replace(
            training,
            name=str(name / training.name if roots.count(training.root) > 1 else name),
        )
        for training, name in zip(trainings, names, strict=True)
    ]


def read_mace(path: Path) -> Training:
    """The training in a results file.

    Raises:
        WeakLossError: if it is no results file of MACE, or has no step in it yet.
    """
    rows, superseded = joined(list(_mace_starts(path)))
    steps = [row for row in rows if row["mode"] == "opt"]
    evaluations = [row for row in rows if row["mode"] == "eval"]
    if not steps:
        raise NotBegunError(f"'{path}' has no training step yet", "wait for the first epoch")
    tag = path.name.removesuffix("_train.txt")
    root = path.parent.parent if path.parent.name == "results" else path.parent
    log, settings = (_text_of(root / "logs" / f"{tag}{end}.log") for end in ("", "_debug"))
    planned = MACE_PLANNED.findall(settings)
    return Training(
        root=root,
        name=tag,
        host=MACE,
        losses=_mace_losses(steps),
        validation=_mace_column(evaluations, "loss"),
        errors={name: _mace_column(evaluations, key, 1e3) for name, key in MACE_ERRORS.items()},
        planned=int(planned[-1]) if planned else None,
        may_stop=STOPPED in log,
        reweighted=STAGE_TWO in log,
        weak_time=_weak_time(steps),
        superseded=superseded,
    )


def _mace_starts(path: Path) -> Iterator[list[Row]]:
    """The rows of each start: MACE appends, and evaluates before the first epoch of each.

    That evaluation counts as of the epoch ``BEFORE`` in a start from the beginning, and is left out
    in one from a checkpoint, where it is the checkpoint's.
    """
    rows: list[Row] = []
    initial: list[Row] = []
    for row in _mace_rows(path):
        if row["epoch"] is None:
            if rows:
                yield rows
                rows, initial = [], []
            initial.append({**row, "epoch": BEFORE})
            continue
        if not rows and row["epoch"] == 0:
            rows = initial
        rows.append(row)
    yield rows


def _mace_rows(path: Path) -> Iterator[Row]:
    """Rows of steps and evaluations.

    Lines that are torn are left out: the last one is being written, others were by a run that died.

    Raises:
        WeakLossError: if the first line, or one that is whole, is none of these.
    """
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if row["mode"] in ("opt", "eval"):
                yield {**row, "epoch": row["epoch"]}
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ValueError) and (number > 1 or len(lines) == 1):
                continue
            raise WeakLossError(
                f"line {number} of '{path}' is not one of MACE's results: name the folder of a run"
            ) from error


def _mace_losses(steps: Sequence[Row]) -> dict[str, Curve]:
    """Means over all steps of an epoch; steps without a weak term count as zero of it."""
    curves: dict[str, Curve] = {
        SUPERVISED: means(
            (step["epoch"], step.get("loss_supervised", step["loss"])) for step in steps
        )
    }
    for term in WEAK:
        key = f"loss_{term}"
        epochs = {step["epoch"] for step in steps if key in step}
        curves[term] = means(
            (step["epoch"], step.get(key, 0.0)) for step in steps if step["epoch"] in epochs
        )
    return curves


def _mace_column(rows: Sequence[Row], key: str, factor: float = 1.0) -> Curve:
    """A column by epoch: of several heads that of the last one, which decides on the model."""
    return {
        row["epoch"]: factor * (math.nan if row[key] is None else row[key])
        for row in rows
        if key in row
    }


def _weak_time(steps: Sequence[Row]) -> float | None:
    """Share of the weak terms in the time of the steps, if it was taken."""
    if not any("time_weak" in step for step in steps):
        return None
    return sum(step.get("time_weak", 0.0) for step in steps) / sum(step["time"] for step in steps)


def _text_of(path: Path) -> str:
    """The text of a file, nothing if there is none."""
    return path.read_text(errors="replace") if path.is_file() else ""


def read_nequip(paths: Sequence[Path]) -> Training:
    """The training in the files of a logger's versions, one for each start, in their order.

    Raises:
        WeakLossError: if they are no log of nequip, or have no epoch in them yet.
    """
    rows, superseded = joined([list(_nequip_rows(path)) for path in paths])
    folder = paths[-1].parent
    total = _nequip_losses(rows, TOTAL)
    if not total:
        raise NotBegunError(
            f"'{paths[-1]}' has no training loss of nequip ({EPOCH}{TOTAL} or {STEP}{TOTAL})",
            "name the folder of a run, or wait for its first epoch",
        )
    root = _root_of(folder)
    configuration = root / CONFIGURATION
    settings = configuration.read_text() if configuration.is_file() else ""
    planned = NEQUIP_PLANNED.search(settings)
    return Training(
        root=root,
        name=root.name,
        host=NEQUIP,
        losses={
            SUPERVISED: _nequip_losses(rows, SUPERVISED) or total,
            **{term: _nequip_losses(rows, f"weak_{term}") for term in WEAK},
        },
        validation=_nequip_column(rows, VALIDATION + TOTAL),
        errors={
            name: _nequip_column(rows, VALIDATION + key, 1e3) for name, key in NEQUIP_ERRORS.items()
        },
        planned=int(planned[1]) if planned else None,
        may_stop=bool(STOPPERS.search(settings)),
        reweighted=bool(REWEIGHTING.search(settings)),
        weak_time=None,
        superseded=superseded,
    )


def _nequip_rows(path: Path) -> Iterator[Row]:
    """Rows without their empty cells.

    Raises:
        WeakLossError: if the file is no log of Lightning.
    """
    try:
        with path.open(newline="", errors="replace") as file:
            log = csv.DictReader(file)
            if "epoch" not in (log.fieldnames or ()):
                raise ValueError("no epochs")
            for row in log:
                values = {name: float(value) for name, value in row.items() if value}
                if "epoch" in values:  # else of a callback that logs by the step alone
                    yield {**values, "epoch": int(values["epoch"])}
    except (ValueError, TypeError, csv.Error) as error:
        raise WeakLossError(
            f"'{path}' is not written by Lightning's CSVLogger: name the folder of a run"
        ) from error


def _nequip_losses(rows: Sequence[Row], name: str) -> Curve:
    """Mean of each epoch: that of nequip where it is logged, else over the steps in the log."""
    curve = {**_nequip_column(rows, STEP + name), **_nequip_column(rows, EPOCH + name)}
    return dict(sorted(curve.items()))


def _nequip_column(rows: Sequence[Row], key: str, factor: float = 1.0) -> Curve:
    """A column by epoch."""
    return means((row["epoch"], factor * row[key]) for row in rows if key in row)


def _root_of(folder: Path) -> Path:
    """Folder of the run that a logger's folder belongs to: where Hydra left its configuration."""
    for parent in (folder, *folder.parents[:3]):
        if (parent / CONFIGURATION).is_file():
            return parent
    return folder.parent.parent if VERSION.search(folder.name) else folder


def means(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Mean value of each epoch. (pandas would take a NaN loss for a missing one.)"""
    collected: dict[int, list[float]] = {}
    for epoch, value in values:
        collected.setdefault(epoch, []).append(value)
    return {epoch: sum(each) / len(each) for epoch, each in sorted(collected.items())}


def joined(attempts: Sequence[Sequence[Row]]) -> tuple[list[Row], int]:
    """The rows of a training that was started several times, each on top of the one before.

    A start takes the place of what came after its first epoch, so that a start at 0 replaces all;
    also returned is how many epochs were replaced.
    """
    kept: list[Row] = []
    replaced = 0
    for rows in attempts:
        if not rows:
            continue
        begin = min(row["epoch"] for row in rows)
        replaced += len({row["epoch"] for row in kept if row["epoch"] >= max(0, begin)})
        kept = [row for row in kept if row["epoch"] < begin] + list(rows)
    return kept, replaced
