"""MACE batches made from ASE structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms
from mace.data import AtomicData, config_from_atoms
from mace.data.utils import KeySpecification
from mace.tools import torch_geometric
from mace.tools.utils import AtomicNumberTable

from mace_weak.mace.dataset import WeakDataset
from mace_weak.potentials import Sample


def data_of(
    frames: Sequence[Atoms], model: torch.nn.Module, *, numbers: Sequence[int] | None = None
) -> list[AtomicData]:
    """Structures as the trainer reads them."""
    table = AtomicNumberTable(list(numbers or model.atomic_numbers.tolist()))
    return [
        AtomicData.from_config(
            config_from_atoms(atoms, key_specification=KeySpecification.from_defaults()),
            z_table=table,
            cutoff=float(model.r_max),
        )
        for atoms in frames
    ]


def batch_of(
    frames: Sequence[Atoms],
    model: torch.nn.Module,
    *,
    numbers: Sequence[int] | None = None,
    labels: Sequence[Sample] | None = None,
) -> Any:
    """A batch as the trainer would make it, the structures numbered from 0, in float64."""
    data = data_of(frames, model, numbers=numbers)
    dataset = WeakDataset(data, first_number=0, labels=labels, anchored=labels is not None)
    loader = torch_geometric.dataloader.DataLoader(dataset, batch_size=len(data), shuffle=False)
    return next(iter(loader))
