"""Checks of the training and validation files, before MACE does anything with them."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError

from mace_weak.displacements import ADVERSARIAL
from mace_weak.errors import WeakLossError
from mace_weak.options import WeakOptions

REPLAY_HEAD = "pt_head"
LABELS = ("energy", "forces", "stress", "virials")
# MACE's losses that ignore the weights of labels, and so fit what is missing to zero
UNWEIGHTED = {"huber": ("forces", "stress"), "l1l2energyforces": ("forces",)}
PACKED_SUFFIXES = (".h5", ".hdf5", ".lmdb", ".aselmdb", ".db")


@dataclass
class LabelledFrames:
    """How many frames carry each label, and how many lack it that could have it."""

    frames: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    missing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))

    def add(self, atoms: Atoms, labels: Collection[str]) -> None:
        self.frames += 1
        isolated = len(atoms) == 1 and atoms.info.get("config_type") == "IsolatedAtom"
        for label in LABELS:
            self.counts[label] += label in labels
            possible = not isolated and (label in ("energy", "forces") or any(atoms.pbc))
            self.missing[label] += possible and label not in labels


def check_training_files(
    args: argparse.Namespace, options: WeakOptions, base_loss: str, *, anchored: bool
) -> None:
    """Check the labels in the readable files of every head.

    Raises:
        WeakLossError: if a file is missing or cannot be read, a label is NaN or infinite, a
            training file has no energies or not the labels that ``base_loss`` takes for granted,
            or there is nothing for adversarial displacements.
    """
    has_forces = packed = False
    for head, settings in _heads(args).items():
        if head == REPLAY_HEAD:
            continue
        keys = {
            label: settings.get(f"{label}_key", getattr(args, f"{label}_key")) for label in LABELS
        }
        found = LabelledFrames()
        train_files = _paths(settings.get("train_file", args.train_file))
        for path in train_files:
            count_labels(path, keys, found)
        for path in _paths(settings.get("valid_file", args.valid_file)):
            count_labels(path, keys, LabelledFrames())
        packed |= any(_is_packed(path) for path in train_files)
        if found.frames and not found.counts["energy"]:
            raise WeakLossError(
                f"no frame of {', '.join(train_files)} (head {head}) has an energy under the key "
                f"'{keys['energy']}': set --energy_key"
            )
        for label in UNWEIGHTED.get(base_loss, ()):
            if found.missing[label]:
                raise WeakLossError(
                    f"{found.missing[label]} frames of {', '.join(train_files)} (head {head}) "
                    f"have no {label}, which MACE's {base_loss} loss would fit to zero: "
                    "choose --weak_base_loss=weighted or universal"
                )
        has_forces |= found.counts["forces"] > 0
    if options.direction == ADVERSARIAL and not (anchored or has_forces or packed):
        raise WeakLossError(
            "--weak_direction=adversarial needs force labels or an anchor: give "
            "--foundation_model or --weak_anchor, or another direction"
        )


def count_labels(path: str, keys: dict[str, str], found: LabelledFrames) -> None:
    """Add to ``found`` the labels in a file that ASE reads; others are left to MACE.

    Raises:
        WeakLossError: if the file is missing or unreadable, or a label is NaN or infinite.
    """
    if not Path(path).exists():
        raise WeakLossError(f"there is no file '{path}'")
    if _is_packed(path):
        return
    before = found.frames
    try:
        for number, atoms in enumerate(iread(path, index=":")):
            labels = dict(_labels(atoms, keys))
            found.add(atoms, labels)
            for label, value in labels.items():
                if not np.all(np.isfinite(value)):
                    raise WeakLossError(
                        f"'{path}', frame {number} (counted from 0): its {label} (key "
                        f"'{keys[label]}') is NaN or infinite: mend or remove the frame"
                    )
    except WeakLossError:
        raise
    except (OSError, UnknownFileTypeError, LookupError, TypeError, ValueError) as error:
        raise WeakLossError(
            f"'{path}' cannot be read from frame {found.frames - before} (counted from 0): {error}"
        ) from error


def _labels(atoms: Atoms, keys: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    for label, key in keys.items():
        value = (atoms.arrays if label == "forces" else atoms.info).get(key)
        if value is None and atoms.calc is not None:
            value = atoms.calc.results.get(key)
        if value is not None:
            yield label, np.asarray(value, dtype=float)


def _heads(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    if args.heads is None:
        return {"Default": {}}
    return ast.literal_eval(args.heads) if isinstance(args.heads, str) else dict(args.heads)


def _paths(files: Any) -> list[str]:
    if files is None:
        return []
    return [files] if isinstance(files, str) else list(files)


def _is_packed(path: str) -> bool:
    return Path(path).is_dir() or Path(path).suffix.lower() in PACKED_SUFFIXES
