"""Checks of the training and validation files, before MACE does anything with them."""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mace_weak.displacements import ADVERSARIAL
from mace_weak.errors import WeakLossError
from mace_weak.misread import Problem, misread_by_mace, no_forces, same_forces
from mace_weak.options import WeakOptions
from mace_weak.structures import Keys, is_isolated_atom, read_labelled, spelled_as_by_mace

REPLAY_HEAD = "pt_head"
LABELS = tuple(field.name for field in fields(Keys))
# MACE's losses that ignore the weights of labels, and so fit what is missing to zero
UNWEIGHTED = {"huber": ("energy", "forces", "stress"), "l1l2energyforces": ("forces",)}
PACKED_SUFFIXES = (".h5", ".hdf5", ".lmdb", ".aselmdb", ".db")


@dataclass
class LabelledFrames:
    """How many frames carry each label, and how many lack it that could have it.

    Energies (eV) of ``isolated`` atoms are by element, None without one; ``compositions`` and
    ``energies`` those of the other frames with an energy. ``forces`` are a few frames' own, enough
    to tell whether they are all zero or all the same.
    """

    frames: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    missing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    isolated: dict[str, float | None] = field(default_factory=dict)
    elements: set[str] = field(default_factory=set)
    compositions: list[Counter[str]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    forces: list[np.ndarray] = field(default_factory=list)

    def add(self, atoms: Atoms, labels: Mapping[str, np.ndarray]) -> None:
        self.frames += 1
        symbols = atoms.get_chemical_symbols()
        isolated = is_isolated_atom(atoms) and spelled_as_by_mace(atoms)
        energy = labels.get("energy")
        if isolated:
            self.isolated[symbols[0]] = None if energy is None else float(energy)
        else:
            self.elements.update(symbols)
        if energy is not None and not isolated:
            self.compositions.append(Counter(symbols))
            self.energies.append(float(energy))
        if "forces" in labels and not isolated:
            alike = no_forces(self.forces) or same_forces(self.forces)
            if len(self.forces) < 2 or alike:
                self.forces = [*self.forces[:1], labels["forces"]]
        for label in LABELS:
            self.counts[label] += label in labels
            possible = not isolated and (label in ("energy", "forces") or any(atoms.pbc))
            self.missing[label] += possible and label not in labels

    def problems(self, keys: Keys, *, dtype: str) -> Iterator[Problem]:
        """What a training would read as something else."""
        if problem := same_forces(self.forces):
            yield problem
        elements = sorted(self.elements)
        yield from misread_by_mace(
            {label: self.missing[label] for label in ("energy", "forces")},
            asdict(keys),
            self.isolated,
            elements=elements,
            counts=np.array([[own[symbol] for symbol in elements] for own in self.compositions]),
            totals=np.array(self.energies),
            dtype=dtype,
        )


def check_training_files(
    args: argparse.Namespace, options: WeakOptions, base_loss: str, *, anchored: bool
) -> list[str]:
    """Check the labels in the readable files of every head; returns what is doubtful.

    Raises:
        WeakLossError: if a file is missing or cannot be read, a label is NaN or infinite, a
            training file has no energies or not the labels that ``base_loss`` takes for granted,
            or there is nothing for adversarial displacements.
    """
    has_forces = packed = False
    doubts: list[str] = []
    for head, settings in _heads(args).items():
        if head == REPLAY_HEAD:
            continue
        keys = _keys_of(args, settings)
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
                f"'{keys.energy}': set --energy_key"
            )
        for problem in found.problems(keys, dtype=args.default_dtype):
            raise WeakLossError(f"{', '.join(train_files)} (head {head}): {problem}")
        if doubt := no_forces(found.forces):
            doubts.append(f"{', '.join(train_files)} (head {head}): {doubt}")
        for label in UNWEIGHTED.get(base_loss, ()):
            if found.missing[label]:
                where = f"{', '.join(train_files)} (head {head})"
                raise missing_label(label, found.missing[label], where, base_loss)
        has_forces |= found.counts["forces"] > 0
    if options.direction == ADVERSARIAL and not (anchored or has_forces or packed):
        raise WeakLossError(
            "--weak_direction=adversarial needs force labels or an anchor: give "
            "--foundation_model or --weak_anchor, or another direction"
        )
    return doubts


def missing_label(label: str, count: int, where: str, base_loss: str) -> WeakLossError:
    """That a loss fits to zero what some structures lack."""
    return WeakLossError(
        f"{count} frames of {where} have no {label}, which MACE's {base_loss} loss would fit to "
        "zero: choose --weak_base_loss=weighted or universal"
    )


def count_labels(path: str, keys: Keys, found: LabelledFrames) -> None:
    """Add to ``found`` the labels in a file that ASE reads; others are left to MACE.

    Raises:
        WeakLossError: if the file is missing or unreadable, or a label is invalid, NaN or infinite.
    """
    if not Path(path).exists():
        raise WeakLossError(f"there is no file '{path}'")
    if _is_packed(path):
        return
    for place, atoms, labels in read_labelled(Path(path), keys):
        if keys.forces in atoms.info:
            raise WeakLossError(
                f"{place}: its forces are in the comment line (info), where MACE does not look: "
                f"write '{keys.forces}' as a column of the atoms (atoms.arrays)"
            )
        found.add(atoms, labels)
        for label, value in labels.items():
            if not np.all(np.isfinite(value)):
                raise WeakLossError(
                    f"{place}: its {label} (key '{getattr(keys, label)}') is NaN or infinite: "
                    "correct or remove the structure"
                )


def _heads(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    if args.heads is None:
        return {"Default": {}}
    return ast.literal_eval(args.heads) if isinstance(args.heads, str) else dict(args.heads)


def _keys_of(args: argparse.Namespace, settings: Mapping[str, Any]) -> Keys:
    """The names of a head's labels, which MACE takes from its settings rather than the flags."""
    own = {**settings.get("info_keys", {}), **settings.get("arrays_keys", {})}
    return Keys(
        **{
            label: own.get(label, settings.get(f"{label}_key", getattr(args, f"{label}_key")))
            for label in LABELS
        }
    )


def _paths(files: Any) -> list[str]:
    if files is None:
        return []
    return [files] if isinstance(files, str) else list(files)


def _is_packed(path: str) -> bool:
    return Path(path).is_dir() or Path(path).suffix.lower() in PACKED_SUFFIXES
