"""MACE's batches as graphs: of some structures, and of displaced replicas."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mace_weak.step import Subset, indices

Graph = dict[str, Tensor]

NODE_KEYS = ("positions", "node_attrs")
EDGE_KEYS = ("shifts", "unit_shifts")
STRUCTURE_KEYS = ("cell", "head")


def whole_graph(batch: Any, extra_keys: Sequence[str] = ()) -> Graph:
    """What a model's forward reads of a MACE ``Batch``; the positions are constants.

    ``extra_keys`` are further inputs of the model (its ``embedding_specs``).
    """
    keys = (*NODE_KEYS, *EDGE_KEYS, *STRUCTURE_KEYS, *extra_keys, "edge_index", "batch", "ptr")
    graph = {key: batch[key] for key in keys if batch[key] is not None}
    graph["positions"] = batch["positions"].detach()
    return without_unused_waves(graph)


def without_unused_waves(graph: Graph) -> Graph:
    """The graph, with cells of 1 Å where ``PolarMACE`` would sum over waves that it does not use.

    MACE gives molecules a cell that grows with their coordinates, and PolarMACE makes the waves of
    this cell, millions of them for two molecules 20 Å apart, though it computes molecules without.
    """
    if "rcell" not in graph or bool(graph["pbc"].any()):
        return graph
    cell = torch.eye(3).to(graph["cell"]).repeat(len(graph["volume"]), 1)
    return {
        **graph, "cell": cell, "rcell": 2 * torch.pi * cell,
        "volume": torch.ones_like(graph["volume"]),
    }  # fmt: skip


def subset_of(batch: Any, rows: Sequence[int]) -> Subset:
    """Some rows of a batch, by its own slices, which are known on the host."""
    ends = batch.__slices__["positions"]
    sizes = [end - start for start, end in pairwise(ends)]
    return Subset.of(rows, sizes, batch["positions"].device)


def graph_of(batch: Any, subset: Subset, extra_keys: Sequence[str] = ()) -> Graph:
    """``whole_graph`` of the selected structures."""
    graph = whole_graph(batch, extra_keys)
    if subset.atoms is None:
        return graph
    slices, atoms = batch.__slices__, subset.atoms
    edges = indices(slices["edge_index"], subset.rows, atoms.device)
    renumbered = atoms.new_zeros(slices["positions"][-1])
    renumbered[atoms] = torch.arange(len(atoms), device=atoms.device)
    numbers = torch.arange(len(subset.rows))
    sizes = torch.tensor(subset.sizes)
    derived = {
        "edge_index": renumbered[graph.pop("edge_index")[:, edges]],
        "batch": torch.repeat_interleave(numbers, sizes).to(atoms.device, non_blocking=True),
        "ptr": torch.tensor([0, *sizes.cumsum(0)]).to(atoms.device, non_blocking=True),
    }
    selected = {
        key: value[indices(slices[key], subset.rows, atoms.device)]
        for key, value in graph.items()
        if key not in derived
    }
    return {**selected, **derived}


def replicated_graph(graph: Graph, positions: Tensor) -> Graph:
    """``positions.shape[0]`` replicas of a graph as one, with ``positions`` (n_replicas, n, 3).

    The replicas keep the graph's edges: a pair that crosses the cutoff within a displacement
    carries next to no weight.
    """
    replicas, n_atoms = positions.shape[:2]
    n_structures = graph["ptr"].numel() - 1
    copy = torch.arange(replicas, device=positions.device)
    repeated = {
        key: value.repeat(replicas, *[1] * (value.dim() - 1))
        for key, value in graph.items()
        if key not in ("edge_index", "batch", "ptr", "positions")
    }
    edge_index = graph["edge_index"].unsqueeze(1) + n_atoms * copy.view(1, -1, 1)
    starts = graph["ptr"][:-1] + n_atoms * copy.unsqueeze(1)
    end = graph["ptr"][-1:] + n_atoms * (replicas - 1)
    return {
        **repeated,
        "positions": positions.reshape(-1, 3),
        "edge_index": edge_index.reshape(2, -1),
        "batch": (graph["batch"] + n_structures * copy.unsqueeze(1)).reshape(-1),
        "ptr": torch.cat([starts.reshape(-1), end]),
    }


def is_label(data: Any, name: str) -> bool:
    """Whether a structure has the label, and MACE's weights do not switch it off."""
    return bool(data["weight"] * data[f"{name}_weight"] > 0)
