"""The tangent model as the anchor of a training run of nequip."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nequip.data import AtomicDataDict
from nequip.utils import RankedLogger

from mace_weak.nequip.anchor import Anchor, undisplaced
from mace_weak.nequip.graphs import Graph
from mace_weak.nequip.potential import Models
from mace_weak.nequip.tangent import ModelSurface, ParametricModel, doubled
from mace_weak.potentials import Sample
from mace_weak.tangent.fit import Settings, Tangent
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.potential import FrozenTangent
from mace_weak.tangent.storage import solved

FILE = "tangent.npz"
logger = RankedLogger(__name__, rank_zero_only=True)


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
        surface = ModelSurface(self.parametric.model, self.foundation.adapted(doubled(graph)))
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
        own = None
        if AtomicDataDict.FORCE_KEY in fields:
            own = data[AtomicDataDict.FORCE_KEY].cpu().numpy()
        forces.append(None if own is None or np.isnan(own).any() else own)
    start = model.predicted(lambda done: None)
    return Labels.beyond(start, model.counts, np.array(energies), forces)
