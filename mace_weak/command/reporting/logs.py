"""Trainings from the folders, or the log files, that a user names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mace_weak.command.reporting import logs_mace, logs_nequip
from mace_weak.command.reporting.training import Training
from mace_weak.errors import WeakLossError


def read_trainings(paths: Iterable[Path]) -> list[Training]:
    """All trainings in the folders and files, under names that tell them apart.

    Raises:
        WeakLossError: if one has no log of MACE or nequip, or a log cannot be read.
    """
    return named([training for path in paths for training in trainings_in(path)])


def trainings_in(path: Path) -> list[Training]:
    """The trainings in a folder and the folders within it, or in one log file.

    Raises:
        WeakLossError: if there is none.
    """
    path = path.resolve()
    if path.is_file():
        of_nequip = path.suffix == ".csv"
        return [logs_nequip.read_nequip([path]) if of_nequip else logs_mace.read_mace(path)]
    found = [logs_mace.read_mace(file) for file in sorted(path.rglob(logs_mace.RESULTS))]
    versions: dict[Path, list[Path]] = {}
    for file in path.rglob(logs_nequip.RESULTS):
        versioned = logs_nequip.VERSION.search(file.parent.name)
        versions.setdefault(file.parent.parent if versioned else file.parent, []).append(file)
    found += [
        logs_nequip.read_nequip(sorted(files, key=version_of))
        for _, files in sorted(versions.items())
    ]
    if not found:
        raise WeakLossError(
            f"'{path}' has no log: looked in it and below for MACE's results/"
            f"{logs_mace.RESULTS}, and for the {logs_nequip.RESULTS} that nequip writes with "
            "Lightning's CSVLogger (trainer.logger._target_: "
            "lightning.pytorch.loggers.CSVLogger)"
        )
    return found


def version_of(file: Path) -> int:
    """Number of a CSVLogger's version, which is one start of a training."""
    version = logs_nequip.VERSION.search(file.parent.name)
    return int(version[1]) if version else 0


def named(trainings: Sequence[Training]) -> list[Training]:
    """The same under the shortest ends of their paths that tell them apart.

    Several trainings in one folder keep their own names too.
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
