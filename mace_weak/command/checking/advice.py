"""A training command that suits the data that was checked."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mace_weak.command.checking.foundation_checks import Comparison
from mace_weak.command.checking.survey import Survey
from mace_weak.command.frames import Keys
from mace_weak.command.models import Model, host_of
from mace_weak.losses import WITHOUT_TERMS
from mace_weak.options import WeakOptions
from mace_weak.versions import NEQUIP

BATCH = 5
SUPERVISED_ALONE = [f"--{name}={value}" for name, value in WITHOUT_TERMS.items()]
KEEPS_E0S = (
    "to train on these data, by mace-weak's loss without its term: with MACE's own, --E0s has no\n"
    "# effect on a foundation model of as many elements as the data"
)
BOND_FRACTION = 0.05  # of the shortest bonds, for a displacement: 0.05 Å for C–H


def suitable_displacement(survey: Survey) -> float:
    """A twentieth of the usual shortest distance, Å; NaN without a distance."""
    shortest = np.array(survey.shortest)
    known = shortest[np.isfinite(shortest)]
    return float(BOND_FRACTION * np.median(known)) if len(known) else np.nan


def training_command(
    train: Survey,
    valid: Survey | None,
    *,
    foundation: str | None,
    model: Model | None,
    comparison: Comparison | None,
    keys: Keys,
    device: str,
) -> str:
    """A call of the trainer of the foundation's host; without a foundation, of MACE's."""
    if foundation and host_of(foundation) == NEQUIP:
        flags = list(_nequip_flags(train, foundation, model, comparison, keys))
        configuration = '-cp "$PWD/recipes/sparse_data" -cn nequip_finetune'
        return _lines("from a clone of mace-weak:", f"nequip-train {configuration}", flags)
    flags = list(_mace_flags(train, valid, foundation, model, comparison, keys, device))
    comment = KEEPS_E0S if set(SUPERVISED_ALONE) <= set(flags) else "to train on these data:"
    return _lines(comment, "mace_run_train", flags)


def _mace_flags(
    train: Survey,
    valid: Survey | None,
    foundation: str | None,
    model: Model | None,
    comparison: Comparison | None,
    keys: Keys,
    device: str,
) -> Iterator[str]:
    yield f"--train_file={train.path}"
    yield f"--valid_file={valid.path}" if valid else "--valid_fraction=0.1"
    defaults = Keys()
    for label in ("energy", "forces", "stress"):
        key = getattr(keys, label)
        if train.labels[label] and key != getattr(defaults, label):
            yield f"--{label}_key={key}"
    if foundation:
        yield f"--foundation_model={foundation}"
        yield "--multiheads_finetuning=False"
        yield _atomic_energies_flag(model, comparison)
        if _weak(train, comparison):
            yield "--loss=weak_taylor"
            yield from _displacement_flags(train)
        else:
            yield from _supervised_flags(train, model, comparison)
        yield "--lr=0.003"
    else:
        if not train.isolated_atoms:
            yield "--E0s=average"
        yield "--loss=weighted"
    yield f"--batch_size={max(1, min(BATCH, train.count // 2))}"
    yield from ("--max_num_epochs=101", "--eval_interval=10", "--save_all_checkpoints")
    yield from ("--scheduler=ExponentialLR", "--lr_scheduler_gamma=0.96", "--ema")
    # MACE restarts a foundation model only in its own precision
    yield f"--default_dtype={model.dtype if model else 'float32'}"
    yield from ("--ema_decay=0.99", f"--device={device}", "--name=mine")


def _nequip_flags(
    train: Survey,
    foundation: str,
    model: Model | None,
    comparison: Comparison | None,
    keys: Keys,
) -> Iterator[str]:
    yield f"train_file={train.path.resolve()}"
    yield f"package={Path(foundation).resolve()}"
    if model is not None:
        yield f"types=[{', '.join(model.elements)}]"
        yield f"cutoff={model.cutoff:g}"
        own = model.atomic_energies or dict.fromkeys(model.elements, 0.0)
        shift = comparison.shift.energies if comparison else {}
        yield f"shifts={_mapping({name: own[name] + shift.get(name, 0.0) for name in own})}"
    if keys.energy != Keys().energy:
        yield f"data.key_mapping={{{keys.energy}: total_energy}}"
    if comparison and comparison.unrelated:
        yield "training_module.loss.weak_anchor=none"
    yield from _displacement_flags(train, flag="++training_module.loss.weak_displacement")


def _weak(train: Survey, comparison: Comparison | None) -> bool:
    """Whether most structures have energies alone, and the foundation knows of them."""
    labelled = train.labels["forces"] > train.count // 2
    return not labelled and not (comparison and comparison.unrelated)


def _atomic_energies_flag(model: Model | None, comparison: Comparison | None) -> str:
    """``--E0s`` for a fine-tuning; by value for a single element, where MACE's estimate fails."""
    own = (model and model.atomic_energies) or {}
    if len(own) != 1 or comparison is None:
        return "--E0s=estimated"
    ((symbol, energy),) = own.items()
    return f"--E0s={{{atomic_numbers[symbol]}: {energy + comparison.shift.energies[symbol]:.6f}}}"


def _supervised_flags(
    train: Survey, model: Model | None, comparison: Comparison | None
) -> Sequence[str]:
    """MACE's own loss; through mace-weak's where MACE would lose ``--E0s``."""
    as_many = model is not None and len(model.elements) == len(train.elements)
    lost = as_many and comparison and comparison.shifted
    return SUPERVISED_ALONE if lost else ["--loss=weighted"]


def _displacement_flags(train: Survey, flag: str = "--weak_displacement") -> Iterator[str]:
    """A displacement, where the bonds are too short for the default."""
    suitable = suitable_displacement(train)
    if suitable < 0.9 * WeakOptions.from_mapping({}).displacement:
        yield f"{flag}={suitable:.2g}"


def _mapping(values: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {value:.6f}" for name, value in values.items()) + "}"


def _lines(comment: str, program: str, flags: list[str]) -> str:
    return " \\\n    ".join([f"# {comment}\n{program}", *map(shlex.quote, flags)])
