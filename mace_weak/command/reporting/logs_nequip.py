"""What Lightning's ``metrics.csv`` tells about a training of nequip."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mace_weak.command.reporting.training import (
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
from mace_weak.versions import NEQUIP

RESULTS = "metrics.csv"
VERSION = re.compile(r"version_(\d+)$")
# of an epoch nequip logs the mean over its structures; of the steps, by default, some only
EPOCH, STEP, VALIDATION = "train_loss_epoch/", "train_loss_step/", "val0_epoch/"
TOTAL = "weighted_sum"
ERRORS = {ENERGY: "per_atom_energy_rmse", FORCES: "forces_rmse"}
CONFIGURATION = Path(".hydra") / "config.yaml"
PLANNED = re.compile(r"^ *max_epochs: (\d+)", re.MULTILINE)
STOPPERS = re.compile(r"EarlyStopping|^ *max_(?:steps|time): (?!null|-1)", re.MULTILINE)
REWEIGHTING = re.compile(r"LossCoefficient|SoftAdapt")


def read_nequip(paths: Sequence[Path]) -> Training:
    """The training in the files of a logger's versions, one for each start, in their order.

    Raises:
        WeakLossError: if they are no log of nequip, or have no epoch in them yet.
    """
    rows, superseded = joined([list(parsed(path)) for path in paths])
    folder = paths[-1].parent
    total = loss(rows, TOTAL)
    if not total:
        raise WeakLossError(
            f"'{paths[-1]}' has no training loss of nequip ({EPOCH}{TOTAL} or {STEP}{TOTAL}): name "
            "the folder of a run, or wait for its first epoch"
        )
    root = root_of(folder)
    configuration = root / CONFIGURATION
    settings = configuration.read_text() if configuration.is_file() else ""
    planned = PLANNED.search(settings)
    return Training(
        root=root,
        name=root.name,
        host=NEQUIP,
        losses={
            SUPERVISED: loss(rows, SUPERVISED) or total,
            **{term: loss(rows, f"weak_{term}") for term in WEAK},
        },
        validation=column(rows, VALIDATION + TOTAL),
        errors={name: column(rows, VALIDATION + key, 1e3) for name, key in ERRORS.items()},
        planned=int(planned[1]) if planned else None,
        may_stop=bool(STOPPERS.search(settings)),
        reweighted=bool(REWEIGHTING.search(settings)),
        weak_time=None,
        superseded=superseded,
    )


def parsed(path: Path) -> Iterator[Row]:
    """Rows without their empty cells.

    Raises:
        WeakLossError: if the file is no log of Lightning.
    """
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                values = {name: float(value) for name, value in row.items() if value}
                yield {**values, "epoch": int(values["epoch"])}
            except (KeyError, ValueError, TypeError) as error:
                raise WeakLossError(
                    f"'{path}' is not written by Lightning's CSVLogger: name the folder of a run"
                ) from error


def loss(rows: Sequence[Row], name: str) -> Curve:
    """Mean of each epoch: nequip's own where it is logged, else that of the steps in the log."""
    curve = {**column(rows, STEP + name), **column(rows, EPOCH + name)}
    return dict(sorted(curve.items()))


def column(rows: Sequence[Row], key: str, factor: float = 1.0) -> Curve:
    """A column by epoch."""
    return means((row["epoch"], factor * row[key]) for row in rows if key in row)


def root_of(folder: Path) -> Path:
    """Folder of the run that a logger's folder belongs to: where Hydra left its configuration."""
    for parent in (folder, *folder.parents[:3]):
        if (parent / CONFIGURATION).is_file():
            return parent
    return folder.parent.parent if VERSION.search(folder.name) else folder
