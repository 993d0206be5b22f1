"""The tangent model as the anchor of a training run of MACE."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from mace_weak.mace.anchor import Anchor, undisplaced
from mace_weak.mace.graphs import Graph
from mace_weak.mace.tangent import ModelSurface, ParametricModel, doubled
from mace_weak.potentials import Sample
from mace_weak.tangent.fit import Settings, Tangent
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.potential import FrozenTangent
from mace_weak.tangent.storage import solved


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
        energies.append(float(data["energy"]) if data["energy_weight"] > 0 else np.nan)
        has_forces = use_forces and bool(data["forces_weight"] > 0)
        forces.append(data["forces"].double().cpu().numpy() if has_forces else None)
    start = model.predicted(lambda done: None)
    return Labels.beyond(start, model.counts, np.array(energies), forces)
