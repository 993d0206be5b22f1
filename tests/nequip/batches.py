"""nequip batches made from ASE structures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from training import CUTOFF, MOLECULE_TYPES

from mace_weak.nequip import STRUCTURE


def batch_of(
    frames: Sequence[Atoms], *, types: Sequence[str] = MOLECULE_TYPES
) -> AtomicDataDict.Type:
    """A batch as the data module would make it, the structures numbered from 0."""
    return AtomicDataDict.batched_from_list(data_of(frames, types=types))


def data_of(
    frames: Sequence[Atoms], *, types: Sequence[str] = MOLECULE_TYPES
) -> list[AtomicDataDict.Type]:
    """The structures by themselves, numbered from 0."""
    transforms = [
        ChemicalSpeciesToAtomTypeMapper(list(types)),
        NeighborListTransform(r_max=CUTOFF),
    ]
    data_list = []
    for number, atoms in enumerate(frames):
        data = from_ase(atoms, key_mapping={"REF_energy": "total_energy"})
        for transform in transforms:
            data = transform(data)
        data_list.append({**data, STRUCTURE: torch.tensor([[number]])})
    return data_list
