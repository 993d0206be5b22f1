"""MACE batches as graphs: selection of structures, and displaced replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
    return graph


@dataclass(frozen=True)
class Selection:
    """Structures of a batch: their rows, their numbers of atoms, and how to select tensors.

    ``structures`` and ``atoms`` index the batch's tensors; None means all, in order.
    """

    rows: list[int]
    sizes: list[int]
    structures: Tensor | None = None
    atoms: Tensor | None = None

    @classmethod
    def of(cls, batch: Any, rows: list[int]) -> Selection:
        """Select ``rows`` of a batch by its own slices, which are known on the host."""
        slices = batch.__slices__["positions"]
        sizes = [slices[row + 1] - slices[row] for row in rows]
        if len(rows) == batch.num_graphs:
            return cls(rows, sizes)
        device = batch["positions"].device
        structures = torch.tensor(rows).to(device, non_blocking=True)
        return cls(rows, sizes, structures, _indices(slices, rows, device))

    def per_structure(self, values: Tensor) -> Tensor:
        return values if self.structures is None else values[self.structures]

    def per_atom(self, values: Tensor) -> Tensor:
        return values if self.atoms is None else values[self.atoms]

    def scattered(self, values: Tensor, n_structures: int) -> Tensor:
        """``values`` of the selected structures among zeros for all of the batch."""
        if self.structures is None:
            return values
        return values.new_zeros(n_structures).index_copy(0, self.structures, values)


def graph_of(batch: Any, selection: Selection, extra_keys: Sequence[str] = ()) -> Graph:
    """``whole_graph`` of the selected structures."""
    graph = whole_graph(batch, extra_keys)
    if selection.atoms is None:
        return graph
    slices, atoms = batch.__slices__, selection.atoms
    edges = _indices(slices["edge_index"], selection.rows, atoms.device)
    renumbered = atoms.new_zeros(slices["positions"][-1])
    renumbered[atoms] = torch.arange(len(atoms), device=atoms.device)
    numbers = torch.arange(len(selection.rows))
    sizes = torch.tensor(selection.sizes)
    derived = {
        "edge_index": renumbered[graph.pop("edge_index")[:, edges]],
        "batch": torch.repeat_interleave(numbers, sizes).to(atoms.device, non_blocking=True),
        "ptr": torch.tensor([0, *sizes.cumsum(0)]).to(atoms.device, non_blocking=True),
    }
    selected = {
        key: value[_indices(slices[key], selection.rows, atoms.device)]
        for key, value in graph.items()
        if key not in derived
    }
    return {**selected, **derived}


def _indices(slices: Sequence[int], rows: Sequence[int], device: torch.device) -> Tensor:
    ranges = [torch.arange(slices[row], slices[row + 1]) for row in rows]
    return torch.cat(ranges).to(device, non_blocking=True)


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
