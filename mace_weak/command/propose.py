"""The training that ``mace-weak check`` proposes: a call of a host's trainer that suits the data.

For nequip it changes the configuration ``nequip_finetune`` of ``mace_weak.configurations``, by
overrides of Hydra.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mace_weak.command.check_foundation import Comparison
from mace_weak.command.models import Model, host_of
from mace_weak.command.survey import Survey
from mace_weak.compositions import elements_of, fit_elements
from mace_weak.losses import WITHOUT_TERMS
from mace_weak.misread import ASE_LABELS
from mace_weak.options import WeakOptions
from mace_weak.structures import Keys
from mace_weak.versions import NEQUIP, NEQUIP_NET

DISPLACEMENT = WeakOptions.from_mapping({}).displacement
BOND_FRACTION = 0.05  # of the shortest bonds, for a displacement: 0.05 Å for C–H
BATCH = 5
WITHOUT_WEAK_TERMS = [f"--{name}={value}" for name, value in WITHOUT_TERMS.items()]
NO_FORCES = (
    "energies alone teach a new model no forces: name a foundation model by --foundation, or make\n"
    "# one by a cheap method with forces. From scratch:"
)
KEEPS_E0S = (
    "to train on these data, by mace-weak's loss without its term: with MACE's losses, --E0s has\n"
    "# no effect on a foundation model of as many elements as the data"
)
NEQUIP_PROGRAM = "nequip-train -cp pkg://mace_weak.configurations -cn nequip_finetune"
CHECKPOINT, PACKAGE = ".ckpt", ".nequip.zip"
# nequip's loss of energies in place of the anchored one
SUPERVISED_ALONE = (
    "training_module._target_=nequip.train.EMALightningModule",
    "training_module.loss._target_=nequip.train.EnergyOnlyLoss",
    "~training_module.loss.coeffs",
    "~training_module.loss.weak_anchor",
)
WITH_FORCES = (
    "training_module._target_=nequip.train.EMALightningModule",
    "training_module.loss._target_=nequip.train.EnergyForceLoss",
    "+training_module.loss.coeffs.forces=1.0",
    "~training_module.loss.weak_anchor",
    "training_module.val_metrics._target_=nequip.train.EnergyForceMetrics",
    "+training_module.val_metrics.coeffs.forces_rmse=1.0",
)
PLAIN = re.compile(r"[\w./+@%-]+", re.ASCII)
BEFORE_QUOTE = re.compile(r"(\\*)('|$)")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The data that was checked. ``model`` and ``comparison`` are those of the ``foundation``."""

    train: Survey
    valid: Survey | None
    foundation: str | None
    model: Model | None
    comparison: Comparison | None
    keys: Keys
    device: str

    @property
    def unrelated(self) -> bool:
        """Whether the foundation's energies disagree with the labels."""
        return self.comparison is not None and self.comparison.agreement.another_surface

    @property
    def in_closed_form(self) -> str:
        """The call of ``mace-weak finetune``, for a comment."""
        words = ["mace-weak", "finetune", str(self.foundation), str(self.train.path)]
        for label in ("energy", "forces"):
            key = getattr(self.keys, label)
            if key != getattr(Keys(), label):
                words.append(f"--{label}-key={key}")
        return f"in closed form: {shlex.join(words)} --out finetuned"

    @property
    def weak_options(self) -> dict[str, str]:
        """Options of the anchored Taylor loss, where the defaults do not suit."""
        suitable = suitable_displacement(self.train)
        # less only where the bonds are too short for the default
        return {"weak_displacement": f"{suitable:.2g}"} if suitable < 0.9 * DISPLACEMENT else {}


def suitable_displacement(survey: Survey) -> float:
    """A twentieth of the usual shortest distance, Å; NaN without a distance."""
    shortest = np.array(survey.shortest)
    known = shortest[np.isfinite(shortest)]
    return float(BOND_FRACTION * np.median(known)) if len(known) else np.nan


def training_command(subject: Subject) -> str:
    """A call of the trainer of the foundation's host; without a foundation, of MACE's."""
    if subject.foundation and host_of(subject.foundation) == NEQUIP:
        comment, program, flags = _for_nequip(subject, subject.foundation)
    else:
        comment, program, flags = _for_mace(subject)
    return " \\\n    ".join([f"# {comment}\n{program}", *map(shlex.quote, flags)])


def _for_mace(subject: Subject) -> tuple[str, str, list[str]]:
    """A comment on the training, the program, and its flags."""
    flags = list(_mace_flags(subject))
    if set(WITHOUT_WEAK_TERMS) <= set(flags):
        return KEEPS_E0S, "mace_run_train", flags
    if not (subject.foundation or subject.train.labels["forces"]):
        return NO_FORCES, "mace_run_train", flags
    if "--loss=weak_taylor" not in flags:
        return "to train on these data:", "mace_run_train", flags
    return f"{subject.in_closed_form}.model\n# or by MACE's trainer:", "mace_run_train", flags


def _mace_flags(subject: Subject) -> Iterator[str]:
    train, valid = subject.train, subject.valid
    yield f"--train_file={train.path}"
    n_structures = train.count - len(train.isolated_atoms)
    if n_structures < 2 and valid is None:
        valid = train  # a single structure cannot be split
    yield f"--valid_file={valid.path}" if valid else "--valid_fraction=0.1"
    defaults = Keys()
    for label in ("energy", "forces", "stress"):
        key = getattr(subject.keys, label)
        if train.labels[label] and key != getattr(defaults, label):
            yield f"--{label}_key={key}"
    if subject.foundation:
        yield f"--foundation_model={subject.foundation}"
        yield from subject.model.training_flags if subject.model else ()
        yield "--multiheads_finetuning=False"
        yield _atomic_energies_flag(subject)
        yield from _loss_flags(subject)
        yield "--lr=0.003"
    else:
        if not train.isolated_atoms:
            yield f"--E0s={_fitted(train) if _lacks_energies(subject) else 'average'}"
        yield "--loss=weighted"
    yield f"--batch_size={max(1, min(BATCH, n_structures // 2))}"
    yield from ("--max_num_epochs=101", "--eval_interval=10", "--save_all_checkpoints")
    yield from ("--scheduler=ExponentialLR", "--lr_scheduler_gamma=0.96", "--ema")
    # MACE restarts a foundation model only in the precision of its file
    yield f"--default_dtype={subject.model.dtype if subject.model else 'float32'}"
    yield from ("--ema_decay=0.99", f"--device={subject.device}", "--name=mine")


def _fitted(train: Survey) -> str:
    """The energies of the atoms by least squares, as MACE's average is NaN where some lack one."""
    frames = [one.atoms for one in train.labelled]
    energies = [float(one.labels["energy"]) for one in train.labelled]
    if not frames:
        return "average"
    fitted = fit_elements(frames, energies).by_element(elements_of(frames))
    return by_number(fitted)


def by_number(energies: Mapping[str, float]) -> str:
    """Energies of the atoms (eV) as MACE's ``--E0s`` takes them."""
    listed = (f"{atomic_numbers[name]}: {energy:.6f}" for name, energy in energies.items())
    return f"{{{', '.join(listed)}}}"


def _atomic_energies_flag(subject: Subject) -> str:
    """``--E0s`` for a fine-tuning; by value for a single element, where MACE's estimate fails."""
    energies = (subject.model and subject.model.atomic_energies) or {}
    if len(energies) != 1 or subject.comparison is None:
        return "--E0s=estimated"
    ((symbol, energy),) = energies.items()
    shifted = energy + subject.comparison.shifts[symbol]
    return f"--E0s={by_number({symbol: shifted})}"


def _loss_flags(subject: Subject) -> Sequence[str]:
    """The anchored loss, where most structures have energies alone and the foundation helps.

    Otherwise a loss of MACE; through mace-weak's where MACE would ignore ``--E0s``.
    """
    train, model, comparison = subject.train, subject.model, subject.comparison
    if train.labels["forces"] <= train.count // 2 and not subject.unrelated:
        options = [f"--{name}={value}" for name, value in subject.weak_options.items()]
        return ["--loss=weak_taylor", *options]
    as_many = model is not None and len(model.elements) == len(train.elements)
    ignored = as_many and comparison and comparison.shifted
    return WITHOUT_WEAK_TERMS if ignored else ["--loss=weighted"]


def _for_nequip(subject: Subject, foundation: str) -> tuple[str, str, list[str]]:
    """A comment on the training, the program, and its flags."""
    lines = ["to train on these data:", *_changes(subject, foundation)]
    if _trainable(foundation) and not (_has_forces(subject) or subject.unrelated):
        lines[:1] = [f"{subject.in_closed_form}.ckpt", "or by nequip's trainer:"]
    return "\n# ".join(lines), NEQUIP_PROGRAM, list(_nequip_flags(subject, foundation))


def _changes(subject: Subject, foundation: str) -> Iterator[str]:
    """What the user has to change in the call before it works, and its limits."""
    if not _trainable(foundation):
        yield "replace PACKAGE by a package or checkpoint, as no compiled model can be trained"
    if _lacks_energies(subject):
        yield "replace LABELLED by a file of the structures that have an energy"
    if 0 < subject.train.labels["forces"] < subject.train.count:
        yield "it trains on the energies alone: if only some structures have forces, nequip needs"
        yield "NaN in the others, and ignore_nan in the loss"


def _trainable(foundation: str) -> bool:
    return foundation.endswith((CHECKPOINT, PACKAGE)) and not foundation.startswith(NEQUIP_NET)


def _lacks_energies(subject: Subject) -> bool:
    return subject.train.labels["energy"] < subject.train.count


def _nequip_flags(subject: Subject, foundation: str) -> Iterator[str]:
    valid = subject.valid
    train = "LABELLED" if _lacks_energies(subject) else subject.train.path.resolve()
    yield override("train_file", train)
    if valid:
        yield "~data.split_dataset"
        yield override("+data.train_file_path", train)
        yield override("+data.val_file_path", valid.path.resolve())
    yield from _start_flags(foundation)
    yield from _model_flags(subject)
    yield from _label_flags(subject.keys, forces=_has_forces(subject))
    if _has_forces(subject):
        yield from WITH_FORCES
    elif subject.unrelated:
        yield from SUPERVISED_ALONE
    else:
        for name, value in subject.weak_options.items():
            yield override(f"++training_module.loss.{name}", value)


def _start_flags(foundation: str) -> Iterator[str]:
    path = str(Path(foundation).resolve())
    yield override("package", path if _trainable(foundation) else "PACKAGE")
    if path.endswith(CHECKPOINT):
        yield "training_module.model.model._target_=nequip.model.ModelFromCheckpoint"
        yield "~training_module.model.model.package_path"
        yield override("+training_module.model.model.checkpoint_path", path)


def _model_flags(subject: Subject) -> Iterator[str]:
    model, comparison = subject.model, subject.comparison
    if model is None:
        return
    yield from shape_overrides(model)
    energies = model.atomic_energies or dict.fromkeys(model.elements, 0.0)
    shift = comparison.shifts if comparison else {}
    shifted = {name: energy + shift.get(name, 0.0) for name, energy in energies.items()}
    yield f"shifts={per_type(shifted | _isolated(subject))}"


def _isolated(subject: Subject) -> dict[str, float]:
    """Energies of isolated atoms, eV, where there are those of all elements."""
    known = {
        name: energy for name, energy in subject.train.isolated_atoms.items() if energy is not None
    }
    return known if set(known) == subject.train.elements else {}


def _label_flags(keys: Keys, *, forces: bool) -> Iterator[str]:
    """The keys of the labels in the file; an override cannot replace the whole mapping."""
    if keys.energy != Keys().energy:
        yield f"~data.key_mapping.{Keys().energy}"
        yield f"+data.key_mapping.{keys.energy}=total_energy"
    if forces:
        yield f"+data.key_mapping.{keys.forces}=forces"
    read = {keys.energy, keys.forces if forces else None}
    if read & set(ASE_LABELS):
        yield f"data.exclude_keys=[{', '.join(name for name in ASE_LABELS if name not in read)}]"


def _has_forces(subject: Subject) -> bool:
    return subject.train.labels["forces"] == subject.train.count


def shape_overrides(model: Model) -> list[str]:
    """Elements and cutoff of the model that a training starts from."""
    return [f"types=[{', '.join(model.elements)}]", f"cutoff={model.cutoff:g}"]


def per_type(values: Mapping[str, float]) -> str:
    """As Hydra's command line takes a mapping."""
    return "{" + ", ".join(f"{name}: {value:.6f}" for name, value in values.items()) + "}"


def override(key: str, value: object) -> str:
    """``key=value`` with the value as text, such as a path, whatever characters it contains.

    Unquoted, Hydra gives spaces, brackets, commas and ``=`` a meaning, and accepts no letters
    outside ASCII.
    """
    return f"{key}={quoted(str(value))}"


def quoted(text: str) -> str:
    """Text as one value; backslashes count before a quote only."""
    if PLAIN.fullmatch(text):
        return text
    escaped = BEFORE_QUOTE.sub(lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text)
    return "'" + escaped.replace("${", r"\${") + "'"
