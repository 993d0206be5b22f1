"""What each structure of the training set carries into its batches for the weak terms."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import torch
from mace.tools import torch_geometric
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from mace_weak.defaults import StructureSummary
from mace_weak.mace.anchor import Anchor
from mace_weak.mace.checks import check_packed_labels
from mace_weak.mace.graphs import is_label, whole_graph
from mace_weak.mace.kinds import extra_inputs
from mace_weak.mace.tangent import TangentAnchor
from mace_weak.potentials import Sample

STRUCTURE = "weak_structure"
ANCHOR_ENERGY = "weak_anchor_energy"
ANCHOR_FORCES = "weak_anchor_forces"


class WeakDataset(Dataset):
    """A data set of MACE whose structures also carry their number and the anchor's labels.

    The number is text, which MACE's batches keep on the host. ``labels`` are E₀(S) in eV and
    F₀(S) (n_atoms, 3) in eV/Å of each structure. They are None without an anchor, and, where
    ``anchored``, for structures that take no weak terms: those carry zeros, since all structures of
    a batch need the same fields.
    """

    def __init__(
        self, dataset: Any, *, first_number: int, labels: Sequence[Sample] | None, anchored: bool
    ) -> None:
        self.dataset = dataset
        self.first_number = first_number
        self.labels = labels
        self.anchored = anchored

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        data = copy(self.dataset[index])
        data[STRUCTURE] = str(self.first_number + index)
        if self.anchored:
            if self.labels is None:
                data[ANCHOR_ENERGY] = torch.zeros(())
                data[ANCHOR_FORCES] = torch.zeros_like(data["positions"])
            else:
                data[ANCHOR_ENERGY], data[ANCHOR_FORCES] = self.labels[index]
        return data


def structure_numbers(batch: Any) -> list[int]:
    """Numbers, in the training set, of the structures of a batch."""
    return [int(number) for number in batch[STRUCTURE]]


def anchor_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """E₀(S) (n_structures,) in eV and F₀(S) (n_atoms, 3) in eV/Å of a batch."""
    return batch[ANCHOR_ENERGY], batch[ANCHOR_FORCES]


def prepare_training_set(
    train_set: ConcatDataset,
    *,
    heads: Sequence[str],
    weak_heads: Sequence[str],
    anchor: Anchor | TangentAnchor | None,
    batch_size: int,
    device: torch.device,
    base_loss: str,
) -> list[bool]:
    """Number the structures of MACE's training set, in place, and label them with the anchor.

    MACE concatenates one data set for each head. Returns for each structure whether it takes the
    weak terms.
    """
    eligible: list[bool] = []
    datasets: list[Any] = train_set.datasets
    for position, (head, dataset) in enumerate(zip(heads, datasets, strict=True)):
        weak = head in weak_heads
        if weak and not isinstance(dataset, list):
            check_packed_labels(dataset, head, base_loss)
        labels = None
        if anchor is not None and weak:
            labels = anchor_dataset_labels(anchor, dataset, batch_size=batch_size, device=device)
            logging.info("Weak losses: the anchor labelled %d structures", len(labels))
        datasets[position] = WeakDataset(
            dataset, first_number=len(eligible), labels=labels, anchored=anchor is not None
        )
        eligible.extend([weak] * len(dataset))
    return eligible


def summaries(
    train_set: Any, eligible: Sequence[bool], *, n_heads: int, use_forces: bool
) -> Iterator[StructureSummary]:
    """What is known of the structures of a prepared, anchored training set that are eligible.

    Atoms of another head are of another kind, as its level of theory may have another zero.
    ``use_forces`` is whether the training uses force labels.
    """
    for number, weak in enumerate(eligible):
        if not weak:
            continue
        data = train_set[number]
        counts = torch.zeros(n_heads, data["node_attrs"].shape[1], dtype=torch.int)
        counts[int(data["head"])] = data["node_attrs"].sum(dim=0).round().int()
        yield StructureSummary(
            counts=tuple(counts.flatten().tolist()),
            energy=float(data["energy"]) if is_label(data, "energy") else math.nan,
            anchor_energy=float(data[ANCHOR_ENERGY]),
            has_forces=use_forces and is_label(data, "forces"),
        )


def anchor_dataset_labels(
    anchor: Anchor | TangentAnchor, dataset: Any, *, batch_size: int, device: torch.device
) -> list[Sample]:
    """E₀(S) and F₀(S) of each structure of a data set, on the CPU, in order."""
    loader = torch_geometric.dataloader.DataLoader(
        dataset=dataset, batch_size=batch_size, shuffle=False, drop_last=False
    )
    labels: list[Sample] = []
    for batch in loader:
        sizes = (batch["ptr"][1:] - batch["ptr"][:-1]).tolist()
        graph = whole_graph(batch.to(device), extra_inputs(anchor.model))
        energy, forces = anchor.label(graph)
        if forces is None:
            raise RuntimeError("the anchor gave no forces")
        labels.extend(
            Sample(*pair)
            for pair in zip(energy.cpu(), torch.split(forces.cpu(), sizes), strict=True)
        )
    return labels
