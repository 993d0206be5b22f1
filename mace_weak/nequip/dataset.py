"""What each structure of the training set carries into its batches for the weak terms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from nequip.data import AtomicDataDict
from torch.utils.data import DataLoader, Dataset

from mace_weak.defaults import StructureSummary
from mace_weak.errors import WeakLossError
from mace_weak.misread import unplaced
from mace_weak.nequip import ANCHOR_ENERGY, ANCHOR_FORCES, STRUCTURE
from mace_weak.nequip.anchor import Anchor
from mace_weak.nequip.graphs import Graph, inputs_of
from mace_weak.nequip.tangent import TangentAnchor
from mace_weak.potentials import Sample


class WeakDataset(Dataset):
    """A data set of nequip whose structures also carry their number and the anchor's labels.

    ``labels`` are E₀(S) in eV and F₀(S) (n_atoms, 3) in eV/Å of each structure, or None.
    """

    def __init__(self, dataset: Any, labels: Sequence[Sample] | None) -> None:
        self.dataset = dataset
        self.labels = labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Graph:
        number = int(index)
        data = {**self.dataset[number], STRUCTURE: torch.tensor([[number]])}
        if self.labels is not None:
            energy, forces = self.labels[number]
            data |= {ANCHOR_ENERGY: energy.reshape(1, 1), ANCHOR_FORCES: forces}
        return data


def check_labels(
    dataset: Any, fields: Collection[str], ignore_nan: Mapping[str, bool]
) -> dict[str, int]:
    """Check the labels ``fields`` of each structure; returns how many structures have each label.

    nequip's way to say that a label is missing is NaN, with ``ignore_nan`` in the loss.

    Raises:
        WeakLossError: if a label is absent or infinite, or NaN and not ignored.
    """
    counts = {AtomicDataDict.FORCE_KEY: 0, **dict.fromkeys(fields, 0)}
    for number in range(len(dataset)):
        data = dataset[number]
        positions = data[AtomicDataDict.POSITIONS_KEY]
        cell = data.get(AtomicDataDict.CELL_KEY, positions.new_zeros(3, 3)).view(3, 3)
        pbc = data.get(AtomicDataDict.PBC_KEY, torch.zeros(3, dtype=torch.bool)).view(3)
        if problem := unplaced(positions.cpu().numpy(), cell.cpu().numpy(), pbc.cpu().numpy()):
            raise WeakLossError(
                f"structure {number} (counted from 0) of the training set: {problem}"
            )
        for field in fields:
            where = f"structure {number} (counted from 0) of the training set"
            if field not in data:
                raise WeakLossError(
                    f"the loss has a coefficient for {field}, but {where} has none: leave it out "
                    "of coeffs, or map the key of the data file (key_mapping)"
                )
            if torch.isinf(data[field]).any():
                raise WeakLossError(f"{field} of {where} is infinite: correct or remove it")
            if torch.isnan(data[field]).any() and not ignore_nan.get(field, False):
                raise WeakLossError(
                    f"{field} of {where} is NaN: correct or remove it, or, if NaN means that the "
                    f"label is missing, set ignore_nan: {{{field}: true}} in the loss"
                )
        for field in counts:
            counts[field] += field in data and not bool(torch.isnan(data[field]).any())
    return counts


def summaries(
    dataset: WeakDataset, *, n_types: int, fields: Collection[str]
) -> Iterator[StructureSummary]:
    """What is known of the structures of an anchored training set, whose labels are ``fields``."""
    use_forces = AtomicDataDict.FORCE_KEY in fields
    for number in range(len(dataset)):
        data = dataset[number]
        counts = torch.bincount(data[AtomicDataDict.ATOM_TYPE_KEY].flatten(), minlength=n_types)
        yield StructureSummary(
            counts=tuple(counts.tolist()),
            energy=float(data[AtomicDataDict.TOTAL_ENERGY_KEY]),
            anchor_energy=float(data[ANCHOR_ENERGY]),
            has_forces=use_forces and not bool(torch.isnan(data[AtomicDataDict.FORCE_KEY]).any()),
        )


def anchor_dataset_labels(
    anchor: Anchor | TangentAnchor, dataset: Any, *, batch_size: int, device: torch.device
) -> list[Sample]:
    """E₀(S) and F₀(S) of each structure of a data set, on the CPU, in order."""
    loader: DataLoader = DataLoader(
        dataset, batch_size=batch_size, collate_fn=AtomicDataDict.batched_from_list
    )
    labels: list[Sample] = []
    for batch in loader:
        AtomicDataDict.to_(batch, device)
        sizes = batch[AtomicDataDict.NUM_NODES_KEY].tolist()
        graph = inputs_of(batch, anchor.models.input_keys)
        energy, forces = anchor.label(graph)
        if forces is None:
            raise RuntimeError("the anchor gave no forces")
        pieces = torch.split(forces.cpu(), sizes)
        labels.extend(Sample(*pair) for pair in zip(energy.cpu(), pieces, strict=True))
    return labels
