"""From a MACE batch and its prediction to the residuals of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mace_weak.displacements import (
    ADVERSARIAL,
    GAUSSIAN,
    adversarial_displacement,
    structure_displacements,
)
from mace_weak.losses import SPATIAL
from mace_weak.mace.anchor import Anchor
from mace_weak.mace.dataset import anchor_labels
from mace_weak.mace.graphs import Selection, graph_of
from mace_weak.mace.potential import ModelPotential, extra_inputs, position_energy
from mace_weak.options import REFERENCE_LABELS, WeakOptions
from mace_weak.potentials import Difference, Labelled, Potential, Sample
from mace_weak.residuals import weak_residuals


def batch_residuals(
    batch: Any,
    prediction: dict[str, Tensor],
    selection: Selection,
    *,
    structures: Sequence[int],
    model: torch.nn.Module,
    anchor: Anchor | None,
    options: WeakOptions,
    terms: Sequence[str],
    seeds: Sequence[int],
) -> tuple[dict[str, Tensor], Tensor]:
    """Residuals (n_selected,) in eV of each of ``terms``, and the displaced positions in Å.

    ``structures`` are the numbers of the selected structures in the training set, ``prediction``
    the model's output for the whole batch, with forces that carry gradients.
    """
    graph = graph_of(batch, selection, extra_inputs(model, getattr(anchor, "model", None)))
    own = ModelPotential(
        model,
        graph,
        Sample(
            selection.per_structure(position_energy(prediction)),
            selection.per_atom(prediction["forces"]),
        ),
    )
    potential: Potential = own
    if options.labels == REFERENCE_LABELS:
        potential = _labelled(own, batch, prediction, selection)
    reference = own  # where there are no labels to be adversarial to
    if anchor is not None:
        energy, forces = anchor_labels(batch)
        rest = Sample(selection.per_structure(energy), selection.per_atom(forces))
        reference = anchor.potential(graph, rest)
        potential = Difference(potential, reference)
    displacements = _random_displacements(structures, selection, options, terms, seeds).to(
        graph["positions"], non_blocking=True
    )
    if options.direction == ADVERSARIAL:
        displacements[0] = adversarial_displacement(
            _force_error(own, _labelled(reference, batch, prediction, selection)),
            own.structure,
            n_structures=len(selection.rows),
            length=options.displacement,
            otherwise=displacements[0],
        )
    residuals = weak_residuals(potential, displacements, terms)
    return residuals, own.positions


def _random_displacements(
    structures: Sequence[int],
    selection: Selection,
    options: WeakOptions,
    terms: Sequence[str],
    seeds: Sequence[int],
) -> Tensor:
    return structure_displacements(
        structures,
        selection.sizes,
        n_replicas=2 if SPATIAL in terms else 1,
        seeds=seeds,
        length=options.displacement,
        direction=GAUSSIAN if options.direction == ADVERSARIAL else options.direction,
        atom_fraction=options.atom_fraction,
    )


def _labelled(
    potential: Potential, batch: Any, prediction: dict[str, Tensor], selection: Selection
) -> Labelled:
    atoms_alone = (prediction["energy"] - position_energy(prediction)).detach()
    return Labelled(
        potential,
        energy=selection.per_structure(batch["energy"] - atoms_alone),
        forces=selection.per_atom(batch["forces"]),
        has_energy=selection.per_structure(batch["energy_weight"] > 0),
        has_forces=selection.per_structure(batch["forces_weight"] > 0),
    )


def _force_error(own: Potential, reference: Potential) -> Tensor:
    """F − F_ref (n_atoms, 3) in eV/Å, a constant."""
    forces, expected = own.rest().forces, reference.rest().forces
    if forces is None or expected is None:
        raise ValueError("adversarial displacements need the forces")
    return (forces - expected).detach()
