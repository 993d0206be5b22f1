"""nequip's graphs: the models' inputs of a batch, of some of its structures, and displaced."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

Graph = dict[str, Tensor]


def inputs_of(batch: Graph, keys: Sequence[str], rows: Sequence[int]) -> Graph:
    """What a model with the input ``keys`` reads of the structures ``rows`` of a batch."""
    inputs = {key: value for key, value in batch.items() if key in keys}
    if len(rows) == AtomicDataDict.num_frames(batch):
        return inputs
    return AtomicDataDict.batched_from_list(
        [AtomicDataDict.frame_from_batched(inputs, row) for row in rows]
    )


def displaced_replicas(graph: Graph, displacements: Tensor) -> Graph:
    """Replicas of a graph as one batch, displaced by (n_replicas, n_atoms, 3) in Å.

    The replicas keep the graph's fields and edges: a pair that crosses the cutoff within a
    displacement carries next to no weight.
    """
    positions = graph[AtomicDataDict.POSITIONS_KEY] + displacements
    replicas = AtomicDataDict.batched_from_list([graph] * len(displacements))
    return {**replicas, AtomicDataDict.POSITIONS_KEY: positions.detach().reshape(-1, 3)}


def per_structure(values: Tensor, rows: Sequence[int]) -> Tensor:
    """The entries ``rows`` of values (n_structures, 1), as (n_rows,)."""
    values = values.reshape(-1)
    return values if len(rows) == len(values) else values[list(rows)]


def atoms_of(batch: Graph, rows: Sequence[int]) -> Tensor | slice:
    """Which atoms of a batch are in the structures ``rows``."""
    n_structures = AtomicDataDict.num_frames(batch)
    if len(rows) == n_structures:
        return slice(None)
    structure = batch[AtomicDataDict.BATCH_KEY]
    chosen = torch.zeros(n_structures, dtype=torch.bool, device=structure.device)
    chosen[list(rows)] = True
    return chosen[structure]
