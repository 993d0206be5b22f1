"""MACE models as potentials of the core, and the anchor: a frozen one that the terms refer to.

A fine-tuned model has atomic energies of the new level of theory; the anchor keeps its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.mace.graphs import Graph, replicated_graph
from mace_weak.mace.kinds import position_energy
from mace_weak.potentials import Potential, Sample
from mace_weak.step import Stopwatch

NOTABLE = 1e-3  # eV


@dataclass
class ModelPotential:
    """A MACE model on a graph, as a ``Potential``.

    ``at_rest`` is what the model (already) gave for the graph itself. ``frozen`` is for an anchor:
    nothing is recorded for gradients. The ``watch`` times the backward pass, which ends at the
    displaced positions of the first call.
    """

    model: torch.nn.Module
    graph: Graph
    at_rest: Sample
    frozen: bool = False
    watch: Stopwatch | None = None

    @property
    def structure(self) -> Tensor:
        return self.graph["batch"]

    def rest(self) -> Sample:
        return self.at_rest

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        moved = (self.graph["positions"] + displacements).detach()
        replicas = replicated_graph(self.graph, moved)
        with torch.set_grad_enabled(forces or not self.frozen):
            output = self.model(replicas, training=not self.frozen, compute_force=forces)
        if self.watch is not None:
            self.watch.time_backward_to(replicas["positions"])
            self.watch = None
        energy = position_energy(self.model, replicas, output).view(displacements.shape[0], -1)
        force = output["forces"].view_as(displacements) if forces else None
        if not self.frozen:
            return Sample(energy, force)
        return Sample(energy.detach(), None if force is None else force.detach())


@dataclass(frozen=True)
class Anchor:
    """A frozen model, and how the training's elements and heads map onto its own.

    ``elements`` (n_training_elements, n_anchor_elements) turns one-hot elements of the training
    into the model's; ``heads`` (n_training_heads,) does so for the index of the head.
    """

    model: torch.nn.Module
    elements: Tensor
    heads: Tensor

    def potential(self, graph: Graph, at_rest: Sample) -> ModelPotential:
        """The anchor on ``graph``, a graph of the training."""
        return ModelPotential(self.model, self.adapted(graph), at_rest, frozen=True)

    def adapted(self, graph: Graph) -> Graph:
        """The same graph with the model's elements and heads."""
        return {
            **graph,
            "node_attrs": graph["node_attrs"] @ self.elements.to(graph["node_attrs"]),
            "head": self.heads[graph["head"]],
        }

    def label(self, graph: Graph) -> Sample:
        """E₀(S) (n_structures,) in eV and F₀(S) (n_atoms, 3) in eV/Å."""
        return undisplaced(self.potential, graph)


def undisplaced(potential: Callable[[Graph, Sample], Potential], graph: Graph) -> Sample:
    """E(S) (n_structures,) in eV and F(S) (n_atoms, 3) in eV/Å, by a displacement by nothing.

    ``potential`` gives an anchor's on a graph, whose sample at rest is not known yet.
    """
    still = torch.zeros_like(graph["positions"]).unsqueeze(0)
    sample = potential(graph, Sample(torch.empty(0), None)).displaced(still, forces=True)
    return Sample(sample.energy[0], None if sample.forces is None else sample.forces[0])


def load_anchor_model(path: str) -> torch.nn.Module:
    """The MACE model in a file, on the CPU: processes have no device of their own yet.

    Loading it executes the code pickled in it.

    Raises:
        WeakLossError: if the file is missing, unreadable, or holds no MACE model.
    """
    if not Path(path).is_file():
        raise WeakLossError(f"--weak_anchor: there is no file '{path}'")
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling fails in many ways
        raise WeakLossError(
            f"--weak_anchor: '{path}' cannot be read as a model ({type(error).__name__}): is it "
            "complete, and saved by MACE (.model)?"
        ) from error
    needed = ("atomic_numbers", "r_max", "interactions", "atomic_energies_fn")
    if not isinstance(model, torch.nn.Module) or not all(hasattr(model, name) for name in needed):
        raise WeakLossError(
            f"--weak_anchor: '{path}' holds a {type(model).__name__}, not a MACE model"
        )
    return model


def make_anchor(
    model: torch.nn.Module,
    *,
    atomic_numbers: Sequence[int],
    training_heads: Sequence[str],
    weak_heads: Sequence[str],
    r_max: float,
    device: torch.device | str,
) -> Anchor:
    """A frozen copy of ``model`` that fits the training.

    Raises:
        WeakLossError: if the model lacks an element of the data, or has another cutoff, or several
            heads none of which is a head that takes the weak terms.
    """
    own_numbers = model.get_buffer("atomic_numbers").tolist()
    missing = [chemical_symbols[z] for z in atomic_numbers if z not in own_numbers]
    if missing:
        raise WeakLossError(
            f"the anchor lacks {', '.join(missing)} of the data: choose an anchor trained on all "
            "elements, or --weak_anchor=none"
        )
    own_cutoff = float(model.get_buffer("r_max"))
    if abs(own_cutoff - r_max) > 1e-6:
        raise WeakLossError(
            f"the anchor has the cutoff {own_cutoff:g} Å, the training {r_max:g} Å, and they share "
            f"their neighbour lists: set --r_max={own_cutoff:g}, or choose another anchor"
        )
    frozen = deepcopy(model).to(device=device, dtype=torch.get_default_dtype())
    frozen.requires_grad_(False)
    frozen.eval()
    one_hot = torch.zeros(len(atomic_numbers), len(own_numbers))
    for row, number in enumerate(atomic_numbers):
        one_hot[row, own_numbers.index(number)] = 1.0
    heads = _head_map(list(getattr(model, "heads", ["Default"])), training_heads, weak_heads)
    logging.info(
        "Weak losses: anchored on a frozen %s with %d elements",
        type(model).__name__,
        len(own_numbers),
    )
    return Anchor(frozen, one_hot.to(device), torch.tensor(heads, device=device))


def _head_map(
    anchor_heads: Sequence[str], training_heads: Sequence[str], weak_heads: Sequence[str]
) -> list[int]:
    if len(anchor_heads) == 1:
        return [0] * len(training_heads)
    unknown = [head for head in weak_heads if head not in anchor_heads]
    if unknown:
        raise WeakLossError(
            f"the anchor has the heads {', '.join(anchor_heads)}, but not "
            f"{', '.join(unknown)}: choose an anchor with one head or with the heads of the "
            "training"
        )
    return [anchor_heads.index(head) if head in anchor_heads else 0 for head in training_heads]


def take_atomic_energies(model: torch.nn.Module, asked: np.ndarray) -> None:
    """Let ``model`` have these energies of the atoms, (n_heads, n_elements) in eV.

    MACE 0.3.16 copies all of a foundation model that has the shape of the new one's, and so its
    energies of the atoms too, if both know the same number of elements and have the same number of
    heads: ``--E0s`` is ignored then.
    """
    energies = _energies_of(model)
    wanted = torch.as_tensor(asked).to(energies).reshape(energies.shape)
    if (wanted - energies).abs().max() > NOTABLE:
        logging.info(
            "Weak losses: the model has the energies of the atoms of --E0s, and not the foundation "
            "model's, which MACE silently takes where it has as many elements as the data"
        )
    energies.copy_(wanted)


def asked_for(built: Mapping[str, Any]) -> np.ndarray:
    """What ``--E0s`` asks for, from the arguments of MACE's ``configure_model``.

    With ``--foundation_model_elements=True`` that does not cover the elements that the data of a
    head lack. MACE gives these 0 eV; here they have the foundation model's energies.
    """
    asked = np.array(built["atomic_energies"], ndmin=2)
    foundation = built.get("model_foundation")
    if foundation is None:
        return asked
    energies = np.atleast_2d(_energies_of(foundation).cpu().numpy())[0]
    known = dict(zip(foundation.get_buffer("atomic_numbers").tolist(), energies, strict=True))
    for config in built.get("head_configs") or ():
        row = asked[built["heads"].index(config.head_name)]
        for place, number in enumerate(built["z_table"].zs):
            if row[place] == 0 and number not in config.atomic_numbers:
                row[place] = known.get(number, 0.0)
    return asked


def _energies_of(model: torch.nn.Module) -> torch.Tensor:
    return model.get_submodule("atomic_energies_fn").get_buffer("atomic_energies")
