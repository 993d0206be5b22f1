"""One training run of nequip with a weak loss: what is prepared for it, and its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from nequip.data import AtomicDataDict
from nequip.utils import RankedLogger
from torch import Tensor

from mace_weak.defaults import Resolved, Situation, assess, resolve, resolved_order
from mace_weak.displacements import ADVERSARIAL
from mace_weak.errors import WeakLossError
from mace_weak.nequip import ANCHOR_ENERGY, ANCHOR_FORCES
from mace_weak.nequip.anchor import (
    Anchor,
    GraphPotential,
    Models,
    foundation_builders,
    foundation_model,
    load_anchor_model,
    make_anchor,
)
from mace_weak.nequip.dataset import (
    WeakDataset,
    anchor_dataset_labels,
    check_labels,
    summaries,
)
from mace_weak.nequip.graphs import Graph, inputs_of
from mace_weak.nequip.tangent import TangentAnchor, solved_anchor
from mace_weak.options import AUTO, COSINE, LINEAR, NONE, TANGENT, WeakOptions
from mace_weak.potentials import Reference, Sample
from mace_weak.schedule import Place, WeakSchedule, learning_rate_of
from mace_weak.step import Subset, WeakStep, residuals_of
from mace_weak.tangent.plan import Settings
from mace_weak.versions import DISTRIBUTION, installed

logger = RankedLogger(__name__, rank_zero_only=True)


@dataclass(frozen=True)
class WeakRun:
    """What the weak part of one training run needs beside the batch and the model's output.

    ``place`` says where the run is.
    """

    schedule: WeakSchedule
    models: Models
    anchor: Anchor | TangentAnchor | None
    place: Callable[[], Place]

    def residuals(
        self, step: WeakStep, subset: Subset, output: Graph, target: Graph
    ) -> dict[str, Tensor]:
        """Residuals (n_selected,) in eV of each term of the ``step``, of a ``subset`` of a batch.

        ``output`` is what the model gave for the batch ``target``, with forces that carry
        gradients.
        """
        graph = inputs_of(target, self.models.input_keys, subset.rows)
        rest = Sample(
            subset.per_structure(output[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1)),
            subset.per_atom(output[AtomicDataDict.FORCE_KEY]),
        )
        model, anchor = GraphPotential(self.models, graph, rest), None
        if self.anchor is not None:
            rest = Sample(
                subset.per_structure(target[ANCHOR_ENERGY].view(-1)),
                subset.per_atom(target[ANCHOR_FORCES]),
            )
            anchor = self.anchor.potential(graph, rest)
        return residuals_of(step, subset, model, anchor, _reference(output, target, subset))


@dataclass(frozen=True)
class Preparation:
    """A run before its length is known: the training data carries the anchor's labels."""

    models: Models
    anchor: Anchor | TangentAnchor | None
    resolved: Resolved
    n_structures: int


def prepare_run(module: Any) -> Preparation:
    """Make the anchor and prepare the training data of a weak training module.

    Raises:
        WeakLossError: if the anchor, the order or the labels cannot be used.
    """
    loss, trainer = module.loss, module.trainer
    options: WeakOptions = loss.options
    datamodule = trainer.datamodule
    foundation = _make_anchor(module, options, explicit=loss.anchor_given)
    anchor: Anchor | TangentAnchor | None = foundation
    from_scratch = not any(foundation_builders(module.hparams["model"]))
    resolved_order(options, Situation(anchored=anchor is not None, from_scratch=from_scratch))
    (dataset,) = datamodule.train_dataset
    counts = check_labels(dataset, loss.fields, loss.ignore_nan)
    has_direction = anchor is not None or counts[AtomicDataDict.FORCE_KEY]
    if options.direction == ADVERSARIAL and not has_direction:
        raise WeakLossError(
            "weak_direction: adversarial needs force labels or an anchor: give weak_anchor, or "
            "another direction"
        )
    if options.anchor == TANGENT and foundation is not None:
        anchor = _tangent_of(foundation, module, dataset)
    labels = None
    if anchor is not None:
        batch_size = datamodule.train_dataloader_config.get("batch_size", 1)
        labels = anchor_dataset_labels(anchor, dataset, batch_size=batch_size, device=module.device)
        logger.info(f"Weak losses: the anchor labelled {len(labels)} structures")
    labelled = WeakDataset(dataset, labels)
    datamodule.train_dataset = [labelled]
    assessment = None
    if anchor is not None and anchor is foundation:
        n_types = len(module.sole_model.type_names)
        assessment = assess(summaries(labelled, n_types=n_types, fields=loss.fields))
        if assessment.warning:
            logger.warning(f"Weak losses: {assessment.warning}")
    situation = Situation(
        anchored=anchor is not None,
        from_scratch=from_scratch,
        tangent=isinstance(anchor, TangentAnchor),
        assessment=assessment,
    )
    return Preparation(
        models=Models.of(module.sole_model),
        anchor=anchor,
        resolved=resolve(loss.name, options, situation),
        n_structures=len(dataset),
    )


def begin_run(prepared: Preparation, module: Any) -> WeakRun:
    """The run, once its length is known: when the training begins.

    Raises:
        WeakLossError: if the schedule does not fit the length.
    """
    loss, trainer = module.loss, module.trainer
    options: WeakOptions = loss.options
    n_epochs = _length(trainer)
    if options.start_epoch >= n_epochs:
        raise WeakLossError(
            f"weak_start_epoch: {options.start_epoch} is not before the end of training "
            f"({n_epochs:g} epochs)"
        )
    if math.isinf(n_epochs) and options.schedule in (LINEAR, COSINE):
        raise WeakLossError(
            f"weak_schedule: {options.schedule} needs an end: set the trainer's max_epochs or "
            "max_steps, or choose weak_schedule: constant or learning_rate"
        )
    schedule = WeakSchedule(
        name=loss.name,
        options=options,
        resolved=prepared.resolved,
        seed=trainer.datamodule.seed,
        n_epochs=n_epochs,
        steps_per_epoch=trainer.num_training_batches,
        eligible=[True] * prepared.n_structures,
    )
    logger.info(
        f"mace-weak {installed(DISTRIBUTION)}: "
        f"{schedule.described(learning_rate_of(trainer.optimizers[0]))}, "
        f"{'no anchor' if prepared.anchor is None else 'anchored'}"
    )

    def place() -> Place:
        step = trainer.fit_loop.epoch_loop.batch_idx
        return Place(trainer.current_epoch, step, learning_rate_of(trainer.optimizers[0]))

    return WeakRun(schedule, prepared.models, prepared.anchor, place)


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


def _tangent_of(anchor: Anchor, module: Any, dataset: Any) -> Anchor | TangentAnchor:
    """The tangent model of the anchor, or the anchor where the labels settle no forces."""
    trainer = module.trainer
    settings = Settings(seed=trainer.datamodule.seed)
    tangent = solved_anchor(
        anchor, dataset, fields=module.loss.fields, settings=settings, trainer=trainer
    )
    account = tangent.tangent.account
    say = logger.info if account.trusted else logger.warning
    say(f"Weak losses: {account.as_an_anchor}")
    return tangent if account.trusted else anchor


def _reference(output: Graph, target: Graph, subset: Subset) -> Reference:
    """The labels of the structures; what is absent or NaN does not exist."""
    unknown = {
        key: torch.full_like(output[key].detach(), math.nan)
        for key in (AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY)
    }
    known = {key: target.get(key, nothing) for key, nothing in unknown.items()}
    energy = subset.per_structure(known[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1))
    forces = known[AtomicDataDict.FORCE_KEY]
    structure = target[AtomicDataDict.BATCH_KEY]
    missing = torch.isnan(forces).any(dim=-1).to(forces.dtype)
    lacking = missing.new_zeros(subset.n_structures).index_add(0, structure, missing)
    return Reference(
        energy=energy,
        forces=subset.per_atom(forces),
        has_energy=~torch.isnan(energy),
        has_forces=subset.per_structure(lacking) == 0,
    )
