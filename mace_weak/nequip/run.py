"""One training run of nequip with a weak loss: what is prepared for it, and its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nequip.data import AtomicDataDict
from nequip.utils import RankedLogger
from torch import Tensor

from mace_weak.course import Course, learning_rate_of
from mace_weak.displacements import ADVERSARIAL
from mace_weak.errors import WeakLossError
from mace_weak.nequip.anchor import (
    Anchor,
    foundation_builders,
    foundation_model,
    load_anchor_model,
    make_anchor,
)
from mace_weak.nequip.dataset import (
    WeakDataset,
    anchor_dataset_labels,
    check_labels,
    knowledge,
)
from mace_weak.nequip.fields import ANCHOR_ENERGY, ANCHOR_FORCES
from mace_weak.nequip.graphs import Graph, atoms_of, inputs_of, per_structure
from mace_weak.nequip.potential import GraphPotential, Models
from mace_weak.nequip.tangent_anchor import TangentAnchor, solved_anchor
from mace_weak.options import AUTO, NONE, TANGENT, WeakOptions
from mace_weak.potentials import Sample
from mace_weak.step import Labels, step_residuals
from mace_weak.tangent.fit import Settings
from mace_weak.versions import DISTRIBUTION, installed

logger = RankedLogger(__name__, rank_zero_only=True)


@dataclass
class WeakRun:
    """What the weak part of one training run needs beside the batch and the model's output."""

    course: Course
    models: Models
    anchor: Anchor | TangentAnchor | None

    def residuals(
        self,
        output: Graph,
        target: Graph,
        *,
        rows: Sequence[int],
        structures: Sequence[int],
        terms: Sequence[str],
        epoch: int,
    ) -> dict[str, Tensor]:
        """Residuals (n_rows,) in eV of each of ``terms``, of the structures ``rows`` of a batch.

        ``structures`` are their numbers in the training set, ``output`` is what the model gave for
        the batch ``target``, with forces that carry gradients.
        """
        atoms = atoms_of(target, rows)
        graph = inputs_of(target, self.models.input_keys, rows)
        own = GraphPotential(self.models, graph, _sample(output, rows, atoms))
        anchor = None
        if self.anchor is not None:
            rest = Sample(per_structure(target[ANCHOR_ENERGY], rows), target[ANCHOR_FORCES][atoms])
            anchor = self.anchor.potential(graph, rest)
        return step_residuals(
            own,
            anchor=anchor,
            labels=_labels(output, target, rows, atoms),
            structures=structures,
            sizes=per_structure(target[AtomicDataDict.NUM_NODES_KEY], rows).tolist(),
            options=self.course.options,
            order=self.course.order,
            terms=terms,
            seeds=self.course.seeds(epoch),
        )


def prepare_run(module: Any) -> WeakRun:
    """Make the anchor and prepare the training data of a weak training module.

    Raises:
        WeakLossError: if the anchor, the order or the labels cannot be used.
    """
    loss, trainer = module.loss, module.trainer
    options: WeakOptions = loss.options
    datamodule = trainer.datamodule
    models = Models.of(module.sole_model)
    foundation = _make_anchor(module, options, explicit=loss.anchor_given)
    anchor: Anchor | TangentAnchor | None = foundation
    from_scratch = not any(foundation_builders(module.hparams["model"]))
    order = options.expansion_order(anchored=anchor is not None, from_scratch=from_scratch)
    (dataset,) = datamodule.train_dataset
    counts = check_labels(dataset, loss.fields, loss.ignore_nan)
    has_direction = anchor is not None or counts[AtomicDataDict.FORCE_KEY]
    if options.direction == ADVERSARIAL and not has_direction:
        raise WeakLossError(
            "weak_direction: adversarial needs force labels or an anchor: give weak_anchor, or "
            "another direction"
        )
    tangent = None
    if options.anchor == TANGENT and foundation is not None:
        tangent = _tangent_of(foundation, module, dataset)
        anchor = tangent or foundation
    labels = None
    if anchor is not None:
        batch_size = datamodule.train_dataloader_config.get("batch_size", 1)
        labels = anchor_dataset_labels(anchor, dataset, batch_size=batch_size, device=module.device)
        logger.info(f"Weak losses: the anchor labelled {len(labels)} structures")
    datamodule.train_dataset = [WeakDataset(dataset, labels)]
    course = Course(
        name=loss.name,
        options=options,
        seed=datamodule.seed,
        max_num_epochs=math.inf,
        order=order,
        anchored=anchor is not None,
        from_scratch=from_scratch,
        eligible=[True] * len(dataset),
    )
    n_types = len(module.sole_model.type_names)
    if tangent is not None:
        course.take_tangent()
    else:
        course.weigh(knowledge(datamodule.train_dataset[0], n_types=n_types, fields=loss.fields))
    if course.doubt:
        logger.warning(f"Weak losses: {course.doubt}")
    return WeakRun(course, models, anchor)


def begin_run(run: WeakRun, trainer: Any) -> None:
    """Tell the run its length, known when the training begins.

    Raises:
        WeakLossError: if the schedule does not fit the length.
    """
    course, options = run.course, run.course.options
    course.steps_per_epoch = trainer.num_training_batches
    course.max_num_epochs = _length(trainer)
    if options.start_epoch >= course.max_num_epochs:
        raise WeakLossError(
            f"weak_start_epoch: {options.start_epoch} is not before the end of training "
            f"({course.max_num_epochs:g} epochs)"
        )
    if math.isinf(course.max_num_epochs) and options.schedule in ("linear", "cosine"):
        raise WeakLossError(
            f"weak_schedule: {options.schedule} needs an end: set the trainer's max_epochs or "
            "max_steps, or choose weak_schedule: constant or learning_rate"
        )
    logger.info(
        f"mace-weak {installed(DISTRIBUTION)}: "
        f"{course.described(learning_rate_of(trainer.optimizers[0]))}, "
        f"{'no anchor' if run.anchor is None else 'anchored'}"
    )


def _length(trainer: Any) -> float:
    """In epochs; infinite if there is no end."""
    lengths = [math.inf]
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        lengths.append(float(trainer.max_epochs))
    if trainer.max_steps is not None and trainer.max_steps >= 0:
        batches = trainer.max_steps * trainer.accumulate_grad_batches
        lengths.append(batches / trainer.num_training_batches)
    return min(lengths)


def _make_anchor(module: Any, options: WeakOptions, *, explicit: bool) -> Anchor | None:
    if options.anchor == NONE:
        return None
    if options.anchor in (AUTO, TANGENT):
        by_tangent = options.anchor == TANGENT
        model = foundation_model(module.hparams["model"], eager=by_tangent)
        if model is None and explicit:
            raise WeakLossError(
                f"weak_anchor: {options.anchor} needs a foundation model: build the model by "
                "ModelFromPackage or ModelFromCheckpoint, or give a package or checkpoint as "
                "weak_anchor, or weak_anchor: none"
            )
        if model is None:
            logger.warning(
                f"{module.loss.name} without an anchor penalises the curvature of the energy "
                "surface. It seldom helps a model whose forces are exact gradients; fine-tune a "
                "package or checkpoint, or give one as weak_anchor."
            )
            return None
    else:
        model = load_anchor_model(options.anchor)
    trained = module.sole_model
    return make_anchor(model, trained=trained, type_names=trained.type_names, device=module.device)


def _tangent_of(anchor: Anchor, module: Any, dataset: Any) -> TangentAnchor | None:
    """The tangent model of the anchor, where the labels settle the forces."""
    trainer = module.trainer
    settings = Settings(seed=trainer.datamodule.seed)
    tangent = solved_anchor(
        anchor, dataset, fields=module.loss.fields, settings=settings, trainer=trainer
    )
    account = tangent.tangent.account
    say = logger.info if account.trusted else logger.warning
    say(f"Weak losses: {account.as_an_anchor}")
    return tangent if account.trusted else None


def _sample(output: Graph, rows: Sequence[int], atoms: Tensor | slice) -> Sample:
    return Sample(
        per_structure(output[AtomicDataDict.TOTAL_ENERGY_KEY], rows),
        output[AtomicDataDict.FORCE_KEY][atoms],
    )


def _labels(output: Graph, target: Graph, rows: Sequence[int], atoms: Tensor | slice) -> Labels:
    """The labels of the structures; what is absent or NaN does not exist."""
    unknown = {
        key: torch.full_like(output[key].detach(), math.nan)
        for key in (AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY)
    }
    known = {key: target.get(key, nothing) for key, nothing in unknown.items()}
    energy = per_structure(known[AtomicDataDict.TOTAL_ENERGY_KEY], rows)
    forces = known[AtomicDataDict.FORCE_KEY]
    structure = target[AtomicDataDict.BATCH_KEY]
    missing = torch.isnan(forces).any(dim=-1).to(forces.dtype)
    lacking = missing.new_zeros(AtomicDataDict.num_frames(target)).index_add(0, structure, missing)
    return Labels(
        energy=energy,
        forces=forces[atoms],
        has_energy=~torch.isnan(energy),
        has_forces=per_structure(lacking, rows) == 0,
    )
