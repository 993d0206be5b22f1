"""A nequip model as a function of its parameters, and its tangent model as the anchor of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nequip.data import AtomicDataDict
from nequip.utils import RankedLogger
from torch import Tensor

from mace_weak.displacements import structure_key
from mace_weak.nequip.anchor import Anchor, Models, undisplaced, without_derivatives
from mace_weak.nequip.graphs import Graph, displaced_replicas, inputs_of
from mace_weak.nequip.saved import SHIFTS
from mace_weak.potentials import Sample
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import FrozenTangent, in_float64
from mace_weak.tangent.labels import Labels, Predicted
from mace_weak.tangent.plan import Settings
from mace_weak.tangent.storage import solved

PER_BATCH = 16  # structures, where nothing is differentiated by parameters
FILE = "tangent.npz"
logger = RankedLogger(__name__, rank_zero_only=True)


@dataclass(frozen=True)
class ModelSurface:
    """Energies of a nequip model, one without derivatives, on a graph; a ``Surface`` of the core.

    They contain the energies of the atoms, which nequip adds in float64.
    """

    model: Any
    graph: Graph

    @property
    def structure(self) -> Tensor:
        return self.graph[AtomicDataDict.BATCH_KEY]

    def energy(self, displacements: Tensor) -> tuple[Tensor, Tensor]:
        replicas = displaced_replicas(self.graph, displacements)
        positions = replicas[AtomicDataDict.POSITIONS_KEY].requires_grad_(True)
        output = self.model(replicas)
        energy = output[AtomicDataDict.TOTAL_ENERGY_KEY].view(len(displacements), -1)
        return energy, positions


class ParametricModel:
    """A float64 copy of a nequip model on the structures of a data set; a ``Model`` of the core.

    ``dataset`` gives nequip's graphs by number; ``adapt`` turns them into the model's, where these
    know other types of atoms.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        dataset: Any,
        *,
        device: torch.device,
        adapt: Callable[[Graph], Graph] = lambda graph: graph,
    ) -> None:
        self.model: Any = without_derivatives(double(model).to(device))
        self.model.requires_grad_(True)
        self.device = device
        self.adapt = adapt
        # the atoms' energies, where they are trainable, are what the shifts of the solution are
        named = {
            name: value
            for name, value in self.model.named_parameters()
            if value.is_floating_point() and not name.endswith(f"{SHIFTS}.shifts")
        }
        self.names, self.parameters = list(named), list(named.values())
        self._read(dataset)

    def _read(self, dataset: Any) -> None:
        self.dataset = dataset
        structures = [dataset[number] for number in range(len(dataset))]
        self.sizes = [len(one[AtomicDataDict.POSITIONS_KEY]) for one in structures]
        self.keys = [
            structure_key(
                one[AtomicDataDict.POSITIONS_KEY],
                one[AtomicDataDict.ATOM_TYPE_KEY].flatten().tolist(),
            )
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
        """Numbers of atoms of each of the model's types (n_structures, n_types)."""
        n_types = len(self.model.type_names)
        types = [
            self.graph([number])[AtomicDataDict.ATOM_TYPE_KEY].flatten()
            for number in range(len(self.sizes))
        ]
        return np.stack([torch.bincount(one, minlength=n_types).cpu().numpy() for one in types])

    def predicted(self, progress: Callable[[int], None]) -> Predicted:
        """Energies and forces of all structures; ``progress`` is called with how many are done."""
        energies: list[float] = []
        forces: list[np.ndarray] = []
        for start in range(0, len(self.sizes), PER_BATCH):
            numbers = range(start, min(start + PER_BATCH, len(self.sizes)))
            surface = self.surface(numbers)
            still = torch.zeros(1, len(surface.structure), 3, device=self.device)
            energy, positions = surface.energy(still.double())
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
            energies += energy[0].tolist()
            sizes = [self.sizes[number] for number in numbers]
            forces += [-part.cpu().numpy() for part in torch.split(gradient, sizes)]
            progress(len(numbers))
        return Predicted(np.array(energies), np.zeros(len(energies)), forces)

    def surface(self, numbers: Sequence[int]) -> ModelSurface:
        return ModelSurface(self.model, self.graph(numbers))

    def graph(self, numbers: Sequence[int]) -> Graph:
        """Structures as one batch that the model reads."""
        batch = AtomicDataDict.batched_from_list([self.dataset[number] for number in numbers])
        batch = AtomicDataDict.to_(batch, self.device)
        return self.adapt(in_float64(inputs_of(batch, self.model.model_input_fields)))


def double(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in float64, for evaluation: its modules also say which precision they are of."""
    copy = deepcopy(model).double()
    copy.eval()
    for module in copy.modules():
        for name, value in list(vars(module).items()):
            if value is torch.float32:
                setattr(module, name, torch.float64)
    return copy


@dataclass(frozen=True)
class TangentAnchor:
    """The tangent model of the ``foundation``; ``parametric`` is its float64 copy."""

    foundation: Anchor
    parametric: ParametricModel
    tangent: Tangent

    @property
    def models(self) -> Models:
        return self.foundation.models

    def potential(self, graph: Graph, at_rest: Sample) -> FrozenTangent:
        """The tangent model on ``graph``, a graph of the training."""
        surface = ModelSurface(self.parametric.model, self.foundation.adapted(in_float64(graph)))
        potential = self.tangent.on(surface, self.parametric.parameters)
        return FrozenTangent(potential, at_rest, graph[AtomicDataDict.POSITIONS_KEY].dtype)

    def label(self, graph: Graph) -> Sample:
        """E_t(S) (n_structures,) in eV, without shifts of the atoms' energies, and F_t(S)."""
        return undisplaced(self.potential, graph)


def solved_anchor(
    foundation: Anchor, dataset: Any, *, fields: Collection[str], settings: Settings, trainer: Any
) -> TangentAnchor:
    """The tangent model of the foundation for the labels ``fields`` of the training set.

    It is kept beside the checkpoints, for a restart. Of several processes the first solves.
    """
    device = next(foundation.models.full.parameters()).device
    model = ParametricModel(
        foundation.models.full, dataset, device=device, adapt=foundation.adapted
    )
    tangent = solved(
        model, _labels(model, fields), settings, folder_of(trainer) / FILE,
        say=lambda message: logger.info(f"Weak losses: {message}"),
        first=trainer.global_rank == 0, barrier=trainer.strategy.barrier,
    )  # fmt: skip
    return TangentAnchor(foundation, model, tangent)


def folder_of(trainer: Any) -> Path:
    """Where the checkpoints of a training are."""
    folders = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
    return Path(next(filter(None, folders), trainer.default_root_dir))


def _labels(model: ParametricModel, fields: Collection[str]) -> Labels:
    """What the training set is labelled with, relative to the foundation model."""
    energies: list[float] = []
    forces: list[np.ndarray | None] = []
    for number in range(len(model.sizes)):
        data = model.dataset[number]
        energies.append(float(data[AtomicDataDict.TOTAL_ENERGY_KEY]))
        known = None
        if AtomicDataDict.FORCE_KEY in fields:
            known = data[AtomicDataDict.FORCE_KEY].cpu().numpy()
        forces.append(None if known is None or np.isnan(known).any() else known)
    start = model.predicted(lambda done: None)
    return Labels.beyond(start, model.counts, np.array(energies), forces)
