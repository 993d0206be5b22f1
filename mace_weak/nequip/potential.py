"""A nequip model as a potential of the core."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from mace_weak.nequip.graphs import Graph, displaced_replicas
from mace_weak.potentials import Sample

FORCE_OUTPUT = "ForceStressOutput"


def force_output(model: torch.nn.Module) -> torch.nn.Module | None:
    """The module of a ``GraphModel`` that adds forces to energies.

    It is known by its name: a packaged model brings a class of its own.
    """
    outermost = getattr(model, "model", None)
    return outermost if type(outermost).__name__ == FORCE_OUTPUT else None


def gives_forces(model: Any) -> bool:
    """Whether a ``GraphModel`` gives forces: not if it was made with ``do_derivatives: false``."""
    derivatives = getattr(force_output(model), "do_derivatives", True)
    return derivatives and AtomicDataDict.FORCE_KEY in model.irreps_out


def without_derivatives(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` for energies alone: all but its outermost module is shared with ``model``."""
    output = force_output(model)
    if output is None:
        return model
    energies: Any = copy(output)
    energies.do_derivatives = False
    twin: Any = copy(model)
    twin._modules = {**model._modules, "model": energies}
    if getattr(model, "is_compile_graph_model", False):
        twin._compiled_cache = ({},)  # the model's own are compiled with forces
    return twin


@dataclass(frozen=True)
class Models:
    """A ``GraphModel``, and the same for energies alone."""

    full: Any
    energies: Any

    @classmethod
    def of(cls, model: torch.nn.Module) -> Models:
        return cls(model, without_derivatives(model))

    @property
    def input_keys(self) -> Sequence[str]:
        return self.full.model_input_fields


@dataclass(frozen=True)
class GraphPotential:
    """A nequip model on a graph, as a ``Potential``.

    ``at_rest`` is what the model gave for the graph itself. ``frozen`` is for an anchor: nothing is
    recorded for gradients.
    """

    models: Models
    graph: Graph
    at_rest: Sample
    frozen: bool = False

    @property
    def structure(self) -> Tensor:
        return self.graph[AtomicDataDict.BATCH_KEY]

    def rest(self) -> Sample:
        return self.at_rest

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        replicas = displaced_replicas(self.graph, displacements)
        model = self.models.full if forces else self.models.energies
        with torch.set_grad_enabled(forces or not self.frozen):
            output = model(replicas)
        energy = output[AtomicDataDict.TOTAL_ENERGY_KEY].view(len(displacements), -1)
        force = output[AtomicDataDict.FORCE_KEY].view_as(displacements) if forces else None
        if not self.frozen:
            return Sample(energy, force)
        return Sample(energy.detach(), None if force is None else force.detach())
