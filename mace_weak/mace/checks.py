"""Checks before MACE trains: of its files, its packed data sets and its accelerated models."""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from mace.tools import torch_geometric

from mace_weak.displacements import ADVERSARIAL
from mace_weak.errors import WeakLossError
from mace_weak.mace.kinds import LONG_RANGE, MACE_OMOL, POLAR, require_finetunable
from mace_weak.misread import Problem, misread_by_mace, no_forces, same_forces
from mace_weak.options import WeakOptions
from mace_weak.structures import (
    STATE,
    Keys,
    is_isolated_atom,
    read_labelled,
    spelled_as_by_mace,
    unread,
)
from mace_weak.versions import installed

REPLAY_HEAD = "pt_head"
LABELS = tuple(field.name for field in fields(Keys))
# MACE's losses that ignore the weights of labels, and so fit what is missing to zero
UNWEIGHTED = {"huber": ("energy", "forces", "stress"), "l1l2energyforces": ("forces",)}
OF_STRESS = ("stress", "huber", "universal")
PACKED_SUFFIXES = (".h5", ".hdf5", ".lmdb", ".aselmdb", ".db")

BACKENDS = {
    "enable_cueq": ("cuequivariance-torch", "mace.cli.convert_cueq_e3nn"),
    "enable_oeq": ("openequivariance", "mace.cli.convert_oeq_e3nn"),
}
RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


@dataclass
class LabelledFrames:
    """How many frames carry each label, and how many lack it that could have it.

    Energies (eV) of ``isolated`` atoms are by element, None without one; ``compositions`` and
    ``energies`` those of the other frames with an energy. ``forces`` are a few frames' own, enough
    to see whether they are all zero or all the same.
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

    def problems(self, keys: Keys, *, dtype: str, base_loss: str) -> Iterator[Problem]:
        """What a training by ``base_loss`` would read as something else."""
        if problem := same_forces(self.forces):
            yield problem
        elements = sorted(self.elements)
        stresses = ("stress",) if base_loss in OF_STRESS else ()
        yield from misread_by_mace(
            {label: self.missing[label] for label in ("energy", "forces", *stresses)},
            asdict(keys),
            self.isolated,
            elements=elements,
            counts=np.array([[one[symbol] for symbol in elements] for one in self.compositions]),
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
            count_labels(path, keys, found, state=_state_keys(args))
        for path in _paths(settings.get("valid_file", args.valid_file)):
            count_labels(path, keys, LabelledFrames(), state=_state_keys(args))
        packed |= any(_is_packed(path) for path in train_files)
        if found.frames and not found.counts["energy"]:
            raise WeakLossError(
                f"no frame of {', '.join(train_files)} (head {head}) has an energy under the key "
                f"'{keys.energy}': set --energy_key"
            )
        for problem in found.problems(keys, dtype=args.default_dtype, base_loss=base_loss):
            raise WeakLossError(f"{', '.join(train_files)} (head {head}): {problem}")
        e0s = str(settings.get("E0s", args.E0s)).lower()
        if e0s == "average" and found.missing["energy"] and not found.isolated:
            raise WeakLossError(
                f"{found.missing['energy']} structures of {', '.join(train_files)} (head {head}) "
                "have no energy, of which MACE's --E0s=average makes NaN: remove them, or give "
                "--E0s by value (mace-weak check shows them)"
            )
        if doubt := no_forces(found.forces):
            doubts.append(f"{', '.join(train_files)} (head {head}): {doubt}")
        if args.model in LONG_RANGE and (found.counts["stress"] or found.counts["virials"]):
            doubts.append(
                f"{', '.join(train_files)} (head {head}): MACE 0.3.16 computes the stress of a "
                f"{args.model} without the long-range part, and would learn these labels wrong: "
                "remove them, or set --stress_weight=0"
            )
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


def count_labels(path: str, keys: Keys, found: LabelledFrames, *, state: Mapping[str, str]) -> None:
    """Add to ``found`` the labels in a file that ASE reads; others are left to MACE.

    ``state`` are the names under which the training reads charge and spin, if its model does.

    Raises:
        WeakLossError: if the file is missing or unreadable, a label is invalid, NaN or infinite, or
            charge or spin have another name.
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
        for name, key in state.items():
            others = [other for other in STATE[name] if other != key and other in atoms.info]
            if others and key not in atoms.info:
                raise WeakLossError(
                    f"{place}: its {name} is called '{others[0]}', and MACE reads '{key}': rename "
                    f"it, or set --{name}_key={others[0]}"
                )
        for problem in unread(atoms, keys):
            raise WeakLossError(f"{place}: {problem}")
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
    keys = {**settings.get("info_keys", {}), **settings.get("arrays_keys", {})}
    return Keys(
        **{
            label: keys.get(label, settings.get(f"{label}_key", getattr(args, f"{label}_key")))
            for label in LABELS
        }
    )


def _state_keys(args: argparse.Namespace) -> dict[str, str]:
    """Where a training reads charge and spin; empty if its model does not."""
    if args.model != POLAR and not args.embedding_specs and args.foundation_model != MACE_OMOL:
        return {}
    return {name: getattr(args, f"{name}_key") for name in ("total_charge", "total_spin")}


def _paths(files: Any) -> list[str]:
    if files is None:
        return []
    return [files] if isinstance(files, str) else list(files)


def _is_packed(path: str) -> bool:
    return Path(path).is_dir() or Path(path).suffix.lower() in PACKED_SUFFIXES


def refuse_beside_tangent(args: argparse.Namespace) -> None:
    """Refuse what cannot be used with ``--weak_anchor=tangent``.

    Raises:
        WeakLossError: if there is no foundation model.
    """
    if args.foundation_model is None:
        raise WeakLossError(
            "--weak_anchor=tangent fine-tunes a foundation model: give --foundation_model"
        )


def check_foundation(args: argparse.Namespace) -> None:
    """Check that MACE can begin from the foundation model, and estimate the atoms' energies by it.

    Raises:
        WeakLossError: if the model is of another kind, or of another precision, with which MACE
            0.3.16 fails to estimate.
    """
    path = Path(args.foundation_model or "")
    if not path.is_file():
        return
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    except Exception:  # what it is not, MACE says
        return
    require_finetunable(model, str(path), kind=args.model)
    if args.E0s == "estimated" and dtype != args.default_dtype:
        raise WeakLossError(
            f"'{path}' is of {dtype}, and MACE cannot estimate the energies of the atoms with it "
            f"in {args.default_dtype}: give --default_dtype={dtype}, or --E0s by value (mace-weak "
            "check shows them)"
        )


def check_packed_labels(dataset: Any, head: str, base_loss: str) -> None:
    """Check the labels of an HDF5 or LMDB data set, which no text file shows.

    Raises:
        WeakLossError: if a label is NaN or infinite, no structure has an energy, or one lacks a
            label that ``base_loss`` takes for granted.
    """
    missing = dict.fromkeys(("energy", "forces", "stress", "virials"), 0)
    for number in range(len(dataset)):  # MACE's packed data sets end iteration badly
        data = dataset[number]
        for label in missing:
            missing[label] += not bool(data[f"{label}_weight"] > 0)
            if not torch.isfinite(data[label]).all():
                raise WeakLossError(
                    f"the {label} of structure {number} (counted from 0) of the training file of "
                    f"head {head} is NaN or infinite: correct or remove it"
                )
    where = f"the training file of head {head}"
    if missing["energy"] == len(dataset):
        raise WeakLossError(f"no structure of {where} has an energy")
    for label in ("energy", "forces"):  # cells without a stress are not told from molecules here
        if label in UNWEIGHTED.get(base_loss, ()) and missing[label]:
            raise missing_label(label, missing[label], where, base_loss)


def refuse_absent_backends(args: argparse.Namespace) -> None:
    """Refuse an accelerated model whose library is not installed.

    Raises:
        WeakLossError: if it is not.
    """
    for flag, (distribution, _) in BACKENDS.items():
        if getattr(args, flag) and installed(distribution) is None:
            raise WeakLossError(
                f"--{flag} needs {distribution}, which is not installed: pip install "
                f"{distribution}, or remove --{flag}"
            )


def check_accelerated(
    args: argparse.Namespace, model: torch.nn.Module, dataset: Any, device: torch.device
) -> None:
    """Check on the first structure that a converted model equals the original in E and F.

    Conversions have given wrong energies for some models, and some cannot be differentiated
    twice, which the losses need.

    Raises:
        WeakLossError: if it differs, or fails.
    """
    if args.only_cueq:
        return  # built in cuEquivariance, never converted
    for flag, (distribution, module) in BACKENDS.items():
        if not getattr(args, flag):
            continue
        try:
            # the converters leave part of what they build on the CPU
            original = import_module(module).run(deepcopy(model), device=device).to(device)
            batch = torch_geometric.Batch.from_data_list([dataset[0]])
            graph = batch.to(device).to_dict()
            expected = original(dict(graph), training=False)
            found = model(dict(graph), training=True)
            found["forces"].square().sum().backward()
        except Exception as error:  # a foreign backend may fail in any way
            raise WeakLossError(
                f"--{flag}: {distribution} cannot train this model ({error}): remove --{flag}"
            ) from error
        finally:
            model.zero_grad(set_to_none=True)
        for name in ("energy", "forces"):
            _require_equal(flag, name, found[name].detach(), expected[name].detach())


def _require_equal(flag: str, name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if not difference <= RELATIVE_TOLERANCE[found.dtype] * max(1.0, scale):
        raise WeakLossError(
            f"--{flag}: the converted model's {name} differs from the original's by "
            f"{difference:.3g} (largest value {scale:.3g}): remove --{flag}"
        )
