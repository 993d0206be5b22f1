"""From a MACE batch and its prediction to the residuals of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mace_weak.mace.anchor import Anchor
from mace_weak.mace.dataset import anchor_labels
from mace_weak.mace.graphs import Selection, graph_of
from mace_weak.mace.potential import ModelPotential, extra_inputs, position_energy
from mace_weak.mace.tangent_anchor import TangentAnchor
from mace_weak.options import WeakOptions
from mace_weak.potentials import Sample
from mace_weak.step import Labels, step_residuals


def batch_residuals(
    batch: Any,
    prediction: dict[str, Tensor],
    selection: Selection,
    *,
    structures: Sequence[int],
    model: torch.nn.Module,
    anchor: Anchor | TangentAnchor | None,
    options: WeakOptions,
    order: int,
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
    frozen = None
    if anchor is not None:
        energy, forces = anchor_labels(batch)
        rest = Sample(selection.per_structure(energy), selection.per_atom(forces))
        frozen = anchor.potential(graph, rest)
    residuals = step_residuals(
        own,
        anchor=frozen,
        labels=_labels(batch, prediction, selection),
        structures=structures,
        sizes=selection.sizes,
        options=options,
        order=order,
        terms=terms,
        seeds=seeds,
    )
    return residuals, own.positions


def _labels(batch: Any, prediction: dict[str, Tensor], selection: Selection) -> Labels:
    """The labels of the selected structures; the energies without the atoms' own."""
    atoms_alone = (prediction["energy"] - position_energy(prediction)).detach()
    return Labels(
        energy=selection.per_structure(batch["energy"] - atoms_alone),
        forces=selection.per_atom(batch["forces"]),
        has_energy=selection.per_structure(batch["energy_weight"] > 0),
        has_forces=selection.per_structure(batch["forces_weight"] > 0),
    )
