"""nequip's models as potentials of the core, and the anchor: a frozen one the terms refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_method
from nequip.data import AtomicDataDict
from nequip.model.saved_models.load_utils import load_saved_model
from nequip.nn.graph_model import PER_EDGE_TYPE_CUTOFF_KEY, R_MAX_KEY
from nequip.train.lightning import _SOLE_MODEL_KEY
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.nequip.graphs import Graph, displaced_replicas
from mace_weak.potentials import Potential, Sample
from mace_weak.versions import NEQUIP_NET

FORCE_OUTPUT = "ForceStressOutput"
FOUNDATION_BUILDERS = ("ModelFromPackage", "ModelFromCheckpoint")


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


@dataclass(frozen=True)
class Anchor:
    """A frozen model, and its type (n_training_types,) for each atom type of the training."""

    models: Models
    types: Tensor

    def adapted(self, graph: Graph) -> Graph:
        """A graph of the training with the anchor's types of atoms."""
        types = self.types[graph[AtomicDataDict.ATOM_TYPE_KEY]]
        return {**graph, AtomicDataDict.ATOM_TYPE_KEY: types}

    def potential(self, graph: Graph, at_rest: Sample) -> GraphPotential:
        """The anchor on ``graph``, a graph of the training."""
        return GraphPotential(self.models, self.adapted(graph), at_rest, frozen=True)

    def label(self, graph: Graph) -> Sample:
        """E₀(S) (n_structures,) in eV and F₀(S) (n_atoms, 3) in eV/Å."""
        return undisplaced(self.potential, graph)


def undisplaced(potential: Callable[[Graph, Sample], Potential], graph: Graph) -> Sample:
    """E(S) and F(S) of what an anchor's ``potential`` gives on a graph of the training."""
    still = torch.zeros_like(graph[AtomicDataDict.POSITIONS_KEY]).unsqueeze(0)
    sample = potential(graph, Sample(torch.empty(0), None)).displaced(still, forces=True)
    return Sample(sample.energy[0], None if sample.forces is None else sample.forces[0])


def foundation_builders(model_config: Any) -> Iterator[Mapping[str, Any]]:
    """The parts of a model's configuration that load a package or a checkpoint."""
    if isinstance(model_config, Mapping):
        if str(model_config.get("_target_")).rpartition(".")[2] in FOUNDATION_BUILDERS:
            yield model_config
        for value in model_config.values():
            yield from foundation_builders(value)
    elif isinstance(model_config, list | tuple):
        for value in model_config:
            yield from foundation_builders(value)


def foundation_model(model_config: Any, *, eager: bool = False) -> torch.nn.Module | None:
    """The model that a fine-tuning starts from, before any modification, or None.

    ``eager`` is whether it is not to be compiled, though it is trained so.

    Raises:
        WeakLossError: if there are several.
    """
    builders = list(foundation_builders(model_config))
    if not builders:
        return None
    if len(builders) > 1:
        raise WeakLossError(
            f"the model is built from {len(builders)} packages or checkpoints: give the one to "
            "anchor on as weak_anchor, or weak_anchor: none"
        )
    arguments = dict(builders[0])
    if eager:
        arguments["compile_mode"] = "eager"
    return _sole_model(get_method(arguments.pop("_target_"))(**arguments))


def load_anchor_model(path: str) -> torch.nn.Module:
    """The model in a package or checkpoint. Loading it executes code stored in the file.

    Raises:
        WeakLossError: if the file is missing or cannot be read.
    """
    if not path.startswith(NEQUIP_NET) and not Path(path).is_file():
        raise WeakLossError(f"weak_anchor: there is no file '{path}'")
    try:
        return _sole_model(load_saved_model(path))
    except Exception as error:  # unpickling fails in many ways
        raise WeakLossError(
            f"weak_anchor: '{path}' cannot be read as a model ({type(error).__name__}): is it "
            "complete, and a package (.nequip.zip) or a checkpoint (.ckpt) of nequip?"
        ) from error


def make_anchor(
    model: Any,
    *,
    trained: Any,
    type_names: Sequence[str],
    device: torch.device,
) -> Anchor:
    """A frozen copy of ``model`` that fits the ``trained`` model and its atom types.

    Raises:
        WeakLossError: if it lacks an atom type, has another cutoff, or gives no forces.
    """
    own_names = list(model.type_names)
    missing = [name for name in type_names if name not in own_names]
    if missing:
        raise WeakLossError(
            f"the anchor lacks the atom types {', '.join(missing)} (it has {', '.join(own_names)}):"
            " choose an anchor trained on all of them, or weak_anchor: none"
        )
    require_same_cutoff(model.metadata, trained.metadata)
    if not gives_forces(model):
        raise WeakLossError(
            "the anchor gives no forces, as it was made with do_derivatives: false: choose another "
            "anchor, or weak_anchor: none"
        )
    frozen = deepcopy(model).to(device)
    frozen.requires_grad_(False)
    frozen.eval()
    types = torch.tensor([own_names.index(name) for name in type_names], device=device)
    return Anchor(Models.of(frozen), types)


def require_same_cutoff(anchor: Mapping[str, str], trained: Mapping[str, str]) -> None:
    """Compare the metadata of the anchor and the trained model, which share neighbour lists.

    Raises:
        WeakLossError: if they have different cutoffs.
    """
    if abs(float(anchor[R_MAX_KEY]) - float(trained[R_MAX_KEY])) > 1e-6:
        raise WeakLossError(
            f"the anchor has the cutoff {anchor[R_MAX_KEY]} Å, the model {trained[R_MAX_KEY]} Å, "
            f"and they share their neighbour lists: set r_max: {anchor[R_MAX_KEY]}, or choose "
            "another anchor"
        )
    if anchor.get(PER_EDGE_TYPE_CUTOFF_KEY) != trained.get(PER_EDGE_TYPE_CUTOFF_KEY):
        raise WeakLossError(
            "the anchor and the model have different per_edge_type_cutoff, and they share their "
            "neighbour lists: set the anchor's, or choose another anchor"
        )


def _sole_model(model: torch.nn.Module) -> torch.nn.Module:
    return model[_SOLE_MODEL_KEY] if isinstance(model, torch.nn.ModuleDict) else model
