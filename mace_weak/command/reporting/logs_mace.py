"""What MACE's results file and log tell about a training."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mace_weak.command.reporting.training import (
    BEFORE,
    ENERGY,
    FORCES,
    SUPERVISED,
    WEAK,
    Curve,
    Row,
    Training,
    joined,
    means,
)
from mace_weak.errors import WeakLossError
from mace_weak.versions import MACE

RESULTS = "*_run-*_train.txt"
ERRORS = {ENERGY: "rmse_e_per_atom", FORCES: "rmse_f"}
PLANNED = re.compile(r"\bmax_num_epochs=(\d+)")
STAGE_TWO = "Changing loss based on Stage Two Weights"
STOPPED = "Stopping optimization after"


def read_mace(path: Path) -> Training:
    """The training in a results file.

    Raises:
        WeakLossError: if it is no results file of MACE, or has no step in it yet.
    """
    rows, superseded = joined(list(starts(path)))
    steps = [row for row in rows if row["mode"] == "opt"]
    evaluations = [row for row in rows if row["mode"] == "eval"]
    if not steps:
        raise WeakLossError(f"'{path}' has no training step yet: wait for the first epoch")
    tag = path.name.removesuffix("_train.txt")
    root = path.parent.parent if path.parent.name == "results" else path.parent
    log, settings = (text_of(root / "logs" / f"{tag}{end}.log") for end in ("", "_debug"))
    planned = PLANNED.findall(settings)
    return Training(
        root=root,
        name=tag,
        host=MACE,
        losses=losses(steps),
        validation=column(evaluations, "loss"),
        errors={name: column(evaluations, key, 1e3) for name, key in ERRORS.items()},
        planned=int(planned[-1]) if planned else None,
        may_stop=STOPPED in log,
        reweighted=STAGE_TWO in log,
        weak_time=weak_time(steps),
        superseded=superseded,
    )


def starts(path: Path) -> Iterator[list[Row]]:
    """The rows of each start: MACE appends, and evaluates before the first epoch of each.

    That evaluation counts as of the epoch ``BEFORE`` in a start from the beginning, and is left out
    in one from a checkpoint, where it is the checkpoint's.
    """
    rows: list[Row] = []
    initial: list[Row] = []
    for row in parsed(path):
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


def parsed(path: Path) -> Iterator[Row]:
    """Rows of steps and evaluations.

    Raises:
        WeakLossError: if a line cannot be read.
    """
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if row["mode"] in ("opt", "eval"):
                yield {**row, "epoch": row["epoch"]}
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and isinstance(error, ValueError):
                return  # it is being written
            raise WeakLossError(
                f"line {number} of '{path}' is not one of MACE's results: name the folder of a run"
            ) from error


def losses(steps: Sequence[Row]) -> dict[str, Curve]:
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


def column(rows: Sequence[Row], key: str, factor: float = 1.0) -> Curve:
    """A column by epoch: of several heads that of the last one, which chooses the model."""
    return {
        row["epoch"]: factor * (math.nan if row[key] is None else row[key])
        for row in rows
        if key in row
    }


def weak_time(steps: Sequence[Row]) -> float | None:
    """Share of the weak terms in the time of the steps, if it was taken."""
    if not any("time_weak" in step for step in steps):
        return None
    return sum(step.get("time_weak", 0.0) for step in steps) / sum(step["time"] for step in steps)


def text_of(path: Path) -> str:
    """The text of a file, nothing if there is none."""
    return path.read_text(errors="replace") if path.is_file() else ""
