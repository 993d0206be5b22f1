"""A call of ``nequip-train`` that suits the data that was checked.

It changes ``recipes/sparse_data/nequip_finetune.yaml``, by overrides of Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mace_weak.command.checking.subject import Subject
from mace_weak.command.frames import Keys
from mace_weak.command.hydra import override
from mace_weak.command.models import Model
from mace_weak.versions import NEQUIP_NET

PROGRAM = 'nequip-train -cp "$PWD/recipes/sparse_data" -cn nequip_finetune'
CHECKPOINT, PACKAGE = ".ckpt", ".nequip.zip"
# nequip's own loss of energies in place of the anchored one
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


def advice(subject: Subject, foundation: str) -> tuple[str, str, list[str]]:
    """What the training is, the program, and its flags."""
    comment = "\n# ".join(["from a clone of mace-weak:", *_changes(subject, foundation)])
    if _trainable(foundation) and not (_has_forces(subject) or subject.unrelated):
        comment = f"{subject.in_closed_form}.ckpt\n# or by nequip's trainer, {comment}"
    return comment, PROGRAM, list(_flags(subject, foundation))


def _changes(subject: Subject, foundation: str) -> Iterator[str]:
    """What the user has to do to the call before it works, or should know of it."""
    if not _trainable(foundation):
        yield "put a package or checkpoint in place of PACKAGE, as no compiled model can be trained"
    if _lacks_energies(subject):
        yield "put a file of the structures that have an energy in place of LABELLED"
    if 0 < subject.train.labels["forces"] < subject.train.count:
        yield "it trains on the energies alone: for forces that only some have, nequip wants NaN in"
        yield "the others, and ignore_nan in the loss"


def _trainable(foundation: str) -> bool:
    return foundation.endswith((CHECKPOINT, PACKAGE)) and not foundation.startswith(NEQUIP_NET)


def _lacks_energies(subject: Subject) -> bool:
    return subject.train.labels["energy"] < subject.train.count


def _flags(subject: Subject, foundation: str) -> Iterator[str]:
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
    yield from shape_flags(model)
    own = model.atomic_energies or dict.fromkeys(model.elements, 0.0)
    shift = comparison.shift.energies if comparison else {}
    moved = {name: own[name] + shift.get(name, 0.0) for name in own}
    yield f"shifts={per_type(moved | _isolated(subject))}"


def _isolated(subject: Subject) -> dict[str, float]:
    """Energies of isolated atoms, eV, where there are those of all elements."""
    known = {
        name: energy for name, energy in subject.train.isolated_atoms.items() if energy is not None
    }
    return known if set(known) == subject.train.elements else {}


def _label_flags(keys: Keys, *, forces: bool) -> Iterator[str]:
    """The file's names of the labels; an override cannot replace the mapping as a whole."""
    if keys.energy != Keys().energy:
        yield f"~data.key_mapping.{Keys().energy}"
        yield f"+data.key_mapping.{keys.energy}=total_energy"
    if forces:
        yield f"+data.key_mapping.{keys.forces}=forces"


def _has_forces(subject: Subject) -> bool:
    return subject.train.labels["forces"] == subject.train.count


def shape_flags(model: Model) -> list[str]:
    """What a configuration has to know of the model that it starts from."""
    return [f"types=[{', '.join(model.elements)}]", f"cutoff={model.cutoff:g}"]


def per_type(values: Mapping[str, float]) -> str:
    """As Hydra's command line takes a mapping."""
    return "{" + ", ".join(f"{name}: {value:.6f}" for name, value in values.items()) + "}"
