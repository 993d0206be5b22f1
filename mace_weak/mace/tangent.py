"""A MACE model as a function of its parameters, and its tangent model as the anchor of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mace.tools.torch_geometric.batch import Batch
from torch import Tensor
from torch.utils.data import ConcatDataset

from mace_weak.displacements import structure_key
from mace_weak.mace.anchor import Anchor, undisplaced
from mace_weak.mace.graphs import Graph, is_label, replicated_graph, whole_graph
from mace_weak.mace.kinds import extra_inputs, position_energy
from mace_weak.potentials import Sample
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import FrozenTangent, in_float64
from mace_weak.tangent.labels import Labels, Predicted
from mace_weak.tangent.plan import Settings
from mace_weak.tangent.storage import solved

PER_BATCH = 16  # structures, where nothing is differentiated by parameters


@dataclass(frozen=True)
class ModelSurface:
    """Energies of a MACE model on a graph; a ``Surface`` of the core."""

    model: torch.nn.Module
    graph: Graph

    @property
    def structure(self) -> Tensor:
        return self.graph["batch"]

    def energy(self, displacements: Tensor) -> tuple[Tensor, Tensor]:
        positions = (self.graph["positions"] + displacements).detach().requires_grad_(True)
        replicas = replicated_graph(self.graph, positions)
        output = self.model(replicas, training=True, compute_force=False)
        energy = position_energy(self.model, replicas, output)
        return energy.view(displacements.shape[0], -1), positions


class ParametricModel:
    """A float64 copy of a MACE model on the structures of a data set; a ``Model`` of the core.

    ``dataset`` gives MACE's ``AtomicData`` by number; ``adapt`` turns its graphs into the model's,
    where these know other elements.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        dataset: Any,
        *,
        device: torch.device,
        adapt: Callable[[Graph], Graph] = lambda graph: graph,
    ) -> None:
        self.model = double(model).to(device)
        self.model.requires_grad_(True)
        self.device = device
        self.adapt = adapt
        named = {
            name: value
            for name, value in self.model.named_parameters()
            if value.is_floating_point()
        }
        self.names, self.parameters = list(named), list(named.values())
        self._read(dataset)

    def _read(self, dataset: Any) -> None:
        self.dataset = dataset
        structures = [dataset[number] for number in range(len(dataset))]
        self.sizes = [len(one["positions"]) for one in structures]
        self.keys = [
            structure_key(one["positions"], one["node_attrs"].argmax(dim=1).tolist())
            for one in structures
        ]

    def on(self, dataset: Any) -> ParametricModel:
        """The same model on other structures; both have the same parameters."""
        other = copy(self)
        other._read(dataset)
        return other

    @property
    def state(self) -> dict[str, Tensor]:
        """All tensors of the model by name."""
        return self.model.state_dict()

    @property
    def counts(self) -> np.ndarray:
        """Numbers of atoms of each of the model's elements (n_structures, n_elements)."""
        attributes = [self.dataset[number]["node_attrs"] for number in range(len(self.sizes))]
        return np.stack([one.sum(dim=0).round().cpu().numpy() for one in attributes])

    def predicted(self, progress: Callable[[int], None]) -> Predicted:
        """Energies and forces of all structures; ``progress`` is called with how many are done."""
        energies: list[float] = []
        constants: list[float] = []
        forces: list[np.ndarray] = []
        for start in range(0, len(self.sizes), PER_BATCH):
            numbers = range(start, min(start + PER_BATCH, len(self.sizes)))
            graph = self.surface(numbers).graph
            output = self.model(graph, training=False)
            energies += output["energy"].tolist()
            constants += (output["energy"] - position_energy(self.model, graph, output)).tolist()
            sizes = [self.sizes[number] for number in numbers]
            forces += [part.cpu().numpy() for part in torch.split(output["forces"].detach(), sizes)]
            progress(len(numbers))
        return Predicted(np.array(energies), np.array(constants), forces)

    def surface(self, numbers: Sequence[int]) -> ModelSurface:
        batch = Batch.from_data_list([self.dataset[number] for number in numbers])
        return ModelSurface(self.model, self.graph(batch))

    def graph(self, batch: Any) -> Graph:
        """A batch in float64, as the model reads it."""
        return self.adapt(in_float64(whole_graph(batch.to(self.device), extra_inputs(self.model))))


def double(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in float64, for evaluation."""
    copy = deepcopy(model).double()
    copy.eval()
    return copy


@dataclass(frozen=True)
class TangentAnchor:
    """The tangent model of the ``foundation``; ``parametric`` is its float64 copy."""

    foundation: Anchor
    parametric: ParametricModel
    tangent: Tangent

    @property
    def model(self) -> torch.nn.Module:
        return self.foundation.model

    def potential(self, graph: Graph, at_rest: Sample) -> FrozenTangent:
        """The tangent model on ``graph``, a graph of the training."""
        adapted = self.foundation.adapted(in_float64(graph))
        surface = ModelSurface(self.parametric.model, adapted)
        potential = self.tangent.on(surface, self.parametric.parameters)
        return FrozenTangent(potential, at_rest, graph["positions"].dtype)

    def label(self, graph: Graph) -> Sample:
        """E_t(S) (n_structures,) in eV, without shifts of the atoms' energies, and F_t(S)."""
        return undisplaced(self.potential, graph)


def solved_anchor(
    foundation: Anchor,
    datasets: Sequence[Any],
    *,
    use_forces: bool,
    settings: Settings,
    path: Path,
    first: bool,
    distributed: bool,
) -> TangentAnchor:
    """The tangent model of the foundation for the labels of the training set.

    It is kept in the file ``path``, for a restart. Of several processes the ``first`` solves.
    """
    device = next(foundation.model.parameters()).device
    model = ParametricModel(
        foundation.model, ConcatDataset(list(datasets)), device=device, adapt=foundation.adapted
    )
    labels = _labels(model, use_forces=use_forces)
    tangent = solved(
        model, labels, settings, path, say=lambda message: logging.info("Weak losses: %s", message),
        first=first or not distributed,
        barrier=torch.distributed.barrier if distributed else lambda: None,
    )  # fmt: skip
    return TangentAnchor(foundation, model, tangent)


def _labels(model: ParametricModel, *, use_forces: bool) -> Labels:
    """What the training set is labelled with, relative to the foundation model."""
    energies: list[float] = []
    forces: list[np.ndarray | None] = []
    for number in range(len(model.sizes)):
        data = model.dataset[number]
        energies.append(float(data["energy"]) if is_label(data, "energy") else np.nan)
        has_forces = use_forces and is_label(data, "forces")
        forces.append(data["forces"].double().cpu().numpy() if has_forces else None)
    start = model.predicted(lambda done: None)
    return Labels.beyond(start, model.counts, np.array(energies), forces)
