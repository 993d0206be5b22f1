"""A MACE model as a function of its parameters, for the tangent model of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mace.tools.torch_geometric.batch import Batch
from torch import Tensor

from mace_weak.displacements import structure_key
from mace_weak.mace.graphs import Graph, replicated_graph, whole_graph
from mace_weak.mace.potential import extra_inputs, position_energy
from mace_weak.tangent.labels import Predicted

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
        return position_energy(output).view(displacements.shape[0], -1), positions


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
        self.dataset = dataset
        self.device = device
        self.adapt = adapt
        self.parameters = [own for own in self.model.parameters() if own.is_floating_point()]
        structures = [dataset[number] for number in range(len(dataset))]
        self.sizes = [len(one["positions"]) for one in structures]
        self.keys = [
            structure_key(one["positions"], one["node_attrs"].argmax(dim=1).tolist())
            for one in structures
        ]

    @property
    def counts(self) -> np.ndarray:
        """Numbers of atoms of each of the model's elements (n_structures, n_elements)."""
        attributes = [self.dataset[number]["node_attrs"] for number in range(len(self.sizes))]
        return np.stack([own.sum(dim=0).round().cpu().numpy() for own in attributes])

    def predicted(self, progress: Callable[[int], None]) -> Predicted:
        """Energies and forces of all structures; ``progress`` is called with how many are done."""
        energies: list[float] = []
        constants: list[float] = []
        forces: list[np.ndarray] = []
        for start in range(0, len(self.sizes), PER_BATCH):
            numbers = range(start, min(start + PER_BATCH, len(self.sizes)))
            output = self.model(self.surface(numbers).graph, training=False)
            energies += output["energy"].tolist()
            constants += (output["energy"] - position_energy(output)).tolist()
            sizes = [self.sizes[number] for number in numbers]
            forces += [part.cpu().numpy() for part in torch.split(output["forces"].detach(), sizes)]
            progress(len(numbers))
        return Predicted(np.array(energies), np.array(constants), forces)

    def surface(self, numbers: Sequence[int]) -> ModelSurface:
        batch = Batch.from_data_list([self.dataset[number] for number in numbers])
        return ModelSurface(self.model, self.graph(batch))

    def graph(self, batch: Any) -> Graph:
        """A batch in float64, as the model reads it."""
        return self.adapt(doubled(whole_graph(batch.to(self.device), extra_inputs(self.model))))


def doubled(graph: Graph) -> Graph:
    """A graph in float64."""
    return {
        key: value.double() if value.is_floating_point() else value for key, value in graph.items()
    }


def double(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in float64, for evaluation."""
    copy = deepcopy(model).double()
    copy.eval()
    return copy
