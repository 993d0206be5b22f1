"""A call of ``mace_run_train`` that suits the data that was checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase.data import atomic_numbers

from mace_weak.command.checking.subject import Subject
from mace_weak.command.frames import Keys
from mace_weak.losses import WITHOUT_TERMS

BATCH = 5
SUPERVISED_ALONE = [f"--{name}={value}" for name, value in WITHOUT_TERMS.items()]
NO_FORCES = (
    "energies alone teach a new model no forces: name a foundation model by --foundation, or make\n"
    "# one by a cheap method with forces. From scratch:"
)
KEEPS_E0S = (
    "to train on these data, by mace-weak's loss without its term: with MACE's own, --E0s has no\n"
    "# effect on a foundation model of as many elements as the data"
)


def advice(subject: Subject) -> tuple[str, str, list[str]]:
    """What the training is, the program, and its flags."""
    flags = list(_flags(subject))
    if set(SUPERVISED_ALONE) <= set(flags):
        return KEEPS_E0S, "mace_run_train", flags
    if not (subject.foundation or subject.train.labels["forces"]):
        return NO_FORCES, "mace_run_train", flags
    if "--loss=weak_taylor" not in flags:
        return "to train on these data:", "mace_run_train", flags
    return f"{subject.in_closed_form}.model\n# or by MACE's trainer:", "mace_run_train", flags


def _flags(subject: Subject) -> Iterator[str]:
    train, valid = subject.train, subject.valid
    yield f"--train_file={train.path}"
    n_structures = train.count - len(train.isolated_atoms)
    if n_structures < 2 and valid is None:
        valid = train  # MACE cannot set part of one structure apart
    yield f"--valid_file={valid.path}" if valid else "--valid_fraction=0.1"
    defaults = Keys()
    for label in ("energy", "forces", "stress"):
        key = getattr(subject.keys, label)
        if train.labels[label] and key != getattr(defaults, label):
            yield f"--{label}_key={key}"
    if subject.foundation:
        yield f"--foundation_model={subject.foundation}"
        yield "--multiheads_finetuning=False"
        yield _atomic_energies_flag(subject)
        yield from _loss_flags(subject)
        yield "--lr=0.003"
    else:
        if not train.isolated_atoms:
            yield "--E0s=average"
        yield "--loss=weighted"
    yield f"--batch_size={max(1, min(BATCH, n_structures // 2))}"
    yield from ("--max_num_epochs=101", "--eval_interval=10", "--save_all_checkpoints")
    yield from ("--scheduler=ExponentialLR", "--lr_scheduler_gamma=0.96", "--ema")
    # MACE restarts a foundation model only in its own precision
    yield f"--default_dtype={subject.model.dtype if subject.model else 'float32'}"
    yield from ("--ema_decay=0.99", f"--device={subject.device}", "--name=mine")


def _atomic_energies_flag(subject: Subject) -> str:
    """``--E0s`` for a fine-tuning; by value for a single element, where MACE's estimate fails."""
    own = (subject.model and subject.model.atomic_energies) or {}
    if len(own) != 1 or subject.comparison is None:
        return "--E0s=estimated"
    ((symbol, energy),) = own.items()
    shifted = energy + subject.comparison.shift.energies[symbol]
    return f"--E0s={{{atomic_numbers[symbol]}: {shifted:.6f}}}"


def _loss_flags(subject: Subject) -> Sequence[str]:
    """The anchored loss, where most structures have energies alone and the foundation helps.

    Else MACE's own; through mace-weak's where MACE would lose ``--E0s``.
    """
    train, model, comparison = subject.train, subject.model, subject.comparison
    if train.labels["forces"] <= train.count // 2 and not subject.unrelated:
        options = [f"--{name}={value}" for name, value in subject.weak_options.items()]
        return ["--loss=weak_taylor", *options]
    as_many = model is not None and len(model.elements) == len(train.elements)
    lost = as_many and comparison and comparison.shifted
    return SUPERVISED_ALONE if lost else ["--loss=weighted"]
