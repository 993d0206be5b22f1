"""The tangent model as the anchor of a training run of MACE."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from mace_weak.mace.anchor import Anchor, undisplaced
from mace_weak.mace.graphs import Graph
from mace_weak.mace.tangent import ModelSurface, ParametricModel, composition, doubled, predicted
from mace_weak.potentials import Sample
from mace_weak.tangent.fit import Labels, Settings, Tangent, fit
from mace_weak.tangent.potential import TangentPotential
from mace_weak.tangent.storage import fingerprint, load, save


@dataclass(frozen=True)
class FrozenTangent:
    """The tangent model on a graph of the training, in its precision; a ``Potential``."""

    potential: TangentPotential
    at_rest: Sample
    dtype: torch.dtype

    @property
    def structure(self) -> Tensor:
        return self.potential.structure

    def rest(self) -> Sample:
        return self.at_rest

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        sample = self.potential.displaced(displacements.double(), forces=forces)
        return Sample(
            sample.energy.to(self.dtype),
            None if sample.forces is None else sample.forces.to(self.dtype),
        )


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
        own = self.foundation.adapted(doubled(graph))
        surface = ModelSurface(self.parametric.model, own)
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
    mark = fingerprint(model, labels, settings)
    if distributed and not first:
        torch.distributed.barrier()
    tangent = load(path, model.parameters, mark)
    if tangent is None:
        logging.info("Weak losses: solving for the tangent model of %d labels", labels.count)
        tangent, _ = fit(model, labels, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, tangent, mark)
    else:
        logging.info("Weak losses: the tangent model is that of %s", path)
    if distributed and first:
        torch.distributed.barrier()
    return TangentAnchor(foundation, model, tangent)


def _labels(model: ParametricModel, *, use_forces: bool) -> Labels:
    """What the training set is labelled with, relative to the foundation model."""
    start = predicted(model, lambda done: None)
    energies, forces = [], []
    for number in range(len(model.sizes)):
        data = model.dataset[number]
        has_energy = bool(data["energy_weight"] > 0)
        energies.append(float(data["energy"]) - start.energies[number] if has_energy else np.nan)
        has_forces = use_forces and bool(data["forces_weight"] > 0)
        own = data["forces"].double().cpu().numpy() - start.forces[number] if has_forces else None
        forces.append(own)
    return Labels(composition(model), np.array(energies), forces)
