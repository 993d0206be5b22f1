"""nequip's graphs: the models' inputs of a batch, of some of its structures, and displaced."""

from __future__ import annotations

from collections.abc import Sequence

from nequip.data import AtomicDataDict
from torch import Tensor

from mace_weak.step import Subset

Graph = dict[str, Tensor]


def inputs_of(batch: Graph, keys: Sequence[str], rows: Sequence[int] | None = None) -> Graph:
    """What a model with the input ``keys`` reads of a batch, or of its structures ``rows``."""
    inputs = {key: value for key, value in batch.items() if key in keys}
    if rows is None or len(rows) == AtomicDataDict.num_frames(batch):
        return inputs
    return AtomicDataDict.batched_from_list(
        [AtomicDataDict.frame_from_batched(inputs, row) for row in rows]
    )


def subset_of(batch: Graph, rows: Sequence[int]) -> Subset:
    """Some rows of a batch."""
    n_atoms = batch[AtomicDataDict.NUM_NODES_KEY]
    return Subset.of(rows, n_atoms.tolist(), n_atoms.device)


def displaced_replicas(graph: Graph, displacements: Tensor) -> Graph:
    """Replicas of a graph as one batch, displaced by (n_replicas, n_atoms, 3) in Å.

    The replicas keep the graph's fields and edges: a pair that crosses the cutoff within a
    displacement carries next to no weight.
    """
    positions = graph[AtomicDataDict.POSITIONS_KEY] + displacements
    replicas = AtomicDataDict.batched_from_list([graph] * len(displacements))
    return {**replicas, AtomicDataDict.POSITIONS_KEY: positions.detach().reshape(-1, 3)}
