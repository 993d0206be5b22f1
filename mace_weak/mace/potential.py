"""A MACE model as a potential of the core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mace_weak.mace.graphs import Graph, replicated_graph
from mace_weak.potentials import Sample


def extra_inputs(*models: torch.nn.Module | None) -> Sequence[str]:
    """Names of the inputs of the models beyond the usual ones (their embeddings)."""
    names = {name for model in models for name in getattr(model, "embedding_specs", None) or {}}
    return sorted(names)


def position_energy(output: Mapping[str, Tensor]) -> Tensor:
    """Energies (n_structures,) in eV of a MACE output, without the atoms' own where it tells them.

    These cancel in every residual, and all-electron energies would leave float32 few digits.
    """
    return output.get("interaction_energy", output["energy"])


@dataclass
class ModelPotential:
    """A MACE model on a graph, as a ``Potential``.

    ``at_rest`` is what the model (already) gave for the graph itself. ``frozen`` is for an anchor:
    nothing is recorded for gradients. ``positions`` (n_replicas · n_atoms, 3) in Å are those of the
    first call, where the backward pass ends.
    """

    model: torch.nn.Module
    graph: Graph
    at_rest: Sample
    frozen: bool = False
    positions: Tensor = field(default_factory=lambda: torch.empty(0, 3))

    @property
    def structure(self) -> Tensor:
        return self.graph["batch"]

    def rest(self) -> Sample:
        return self.at_rest

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        moved = (self.graph["positions"] + displacements).detach()
        replicas = replicated_graph(self.graph, moved)
        if not self.positions.numel():
            self.positions = replicas["positions"]
        with torch.set_grad_enabled(forces or not self.frozen):
            output = self.model(replicas, training=not self.frozen, compute_force=forces)
        energy = position_energy(output).view(displacements.shape[0], -1)
        force = output["forces"].view_as(displacements) if forces else None
        if not self.frozen:
            return Sample(energy, force)
        return Sample(energy.detach(), None if force is None else force.detach())
