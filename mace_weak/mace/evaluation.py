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
from mace_weak.mace.dataset import anchor_labels, structure_numbers
from mace_weak.mace.graphs import Selection, graph_of
from mace_weak.mace.potential import ModelPotential, extra_inputs
from mace_weak.options import REFERENCE_LABELS, WeakOptions
from mace_weak.potentials import Difference, Labelled, Potential, Sample
from mace_weak.residuals import weak_residuals


def batch_residuals(
    batch: Any,
    prediction: dict[str, Any],
    selection: Selection,
    *,
    model: torch.nn.Module,
    anchor: Anchor | None,
    options: WeakOptions,
    terms: Sequence[str],
    seeds: Sequence[int],
) -> tuple[dict[str, Tensor], Tensor]:
    """Residuals (n_selected,) in eV of each of ``terms``, and the displaced positions in Å.

    ``prediction`` is the model's output for the whole batch, with forces that carry gradients.
    """
    graph = graph_of(batch, selection, extra_inputs(model, anchor and anchor.model))
    rest = Sample(
        selection.per_structure(prediction["energy"]), selection.per_atom(prediction["forces"])
    )
    own = ModelPotential(model, graph, rest)
    potential: Potential = own
    if options.labels == REFERENCE_LABELS:
        potential = Labelled(
            potential,
            energy=selection.per_structure(batch["energy"]),
            forces=selection.per_atom(batch["forces"]),
            has_energy=selection.per_structure(batch["energy_weight"] > 0),
            has_forces=selection.per_structure(batch["forces_weight"] > 0),
        )
    anchor_rest = None
    if anchor is not None:
        energy, forces = anchor_labels(batch)
        anchor_rest = Sample(selection.per_structure(energy), selection.per_atom(forces))
        potential = Difference(potential, anchor.potential(graph, anchor_rest))
    random = options.direction if options.direction != ADVERSARIAL else GAUSSIAN
    numbers = structure_numbers(batch)
    displacements = structure_displacements(
        [numbers[row] for row in selection.rows],
        selection.sizes,
        n_replicas=2 if SPATIAL in terms else 1,
        seeds=seeds,
        length=options.displacement,
        direction=random,
        atom_fraction=options.atom_fraction,
    ).to(graph["positions"], non_blocking=True)
    if options.direction == ADVERSARIAL:
        error = _force_error(batch, selection, rest.forces, anchor_rest)
        against = adversarial_displacement(
            error,
            own.structure,
            n_structures=len(selection.rows),
            length=options.displacement,
            otherwise=displacements[0],
        )
        displacements = torch.cat([against.unsqueeze(0), displacements[1:]])
    residuals = weak_residuals(potential, displacements, terms)
    if own.positions is None:
        raise RuntimeError("the model was not evaluated at displaced positions")
    return residuals, own.positions


def _force_error(
    batch: Any, selection: Selection, forces: Tensor, anchor_rest: Sample | None
) -> Tensor:
    """F − F_ref (n_atoms, 3) in eV/Å; without labels, F − F₀ of the anchor, or zero."""
    structure = torch.repeat_interleave(
        torch.arange(len(selection.sizes)), torch.tensor(selection.sizes)
    ).to(forces.device, non_blocking=True)
    labelled = selection.per_structure(batch["forces_weight"] > 0)[structure].unsqueeze(-1)
    error = forces.detach() - selection.per_atom(batch["forces"])
    if anchor_rest is None or anchor_rest.forces is None:
        return torch.where(labelled, error, torch.zeros_like(error))
    return torch.where(labelled, error, forces.detach() - anchor_rest.forces)
