"""Models and batches for the measurements of cost: random weights, real structures."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read
from e3nn import o3
from mace import data, modules
from mace.data import KeySpecification
from mace.tools import AtomicNumberTable, torch_geometric

from mace_weak.mace.anchor import Anchor, make_anchor
from mace_weak.mace.dataset import WeakDataset, anchor_dataset_labels

QUICKSTART = Path(__file__).parents[1] / "quickstart" / "data"
# the quickstart's foundation model, and one of the size of MACE-MP-0 (medium)
SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_irreps": "32x0e + 32x1o", "max_ell": 2, "correlation": 2, "r_max": 5.0,
              "num_elements": 4},
    "foundation": {"hidden_irreps": "128x0e + 128x1o", "max_ell": 3, "correlation": 3,
                   "r_max": 6.0, "num_elements": 89},
}  # fmt: skip


@dataclass
class Setting:
    """A model, a batch in which each structure carries the anchor's labels, and the anchor."""

    title: str
    model: torch.nn.Module
    anchor: Anchor
    batch: Any
    device: torch.device

    @property
    def n_structures(self) -> int:
        return self.batch.num_graphs

    @property
    def n_atoms(self) -> int:
        return len(self.batch.positions)

    def fresh_model(self) -> torch.nn.Module:
        return deepcopy(self.model)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def make_setting(
    size: str, device: torch.device, *, structures: int = 1, supercell: int | None = None
) -> Setting:
    """``structures`` ethanols, or silicon with ``supercell`` cubic cells an edge."""
    if supercell is None:
        frames = read(QUICKSTART / "ethanol_pbe_train.xyz", ":")
        frames = [frames[number % len(frames)] for number in range(structures)]
        title = f"{structures} × ethanol"
    else:
        frames = [bulk("Si", cubic=True) * (supercell, supercell, supercell)]
        title = f"silicon, {len(frames[0])} atoms"
        frames[0].rattle(0.05, seed=0)
    numbers = element_numbers(SIZES[size]["num_elements"], frames)
    model = make_model(size, numbers).to(device)
    anchor = make_anchor(
        model, atomic_numbers=numbers, training_heads=["Default"], weak_heads=["Default"],
        r_max=SIZES[size]["r_max"], device=device,
    )  # fmt: skip
    return Setting(title, model, anchor, make_batch(frames, numbers, size, anchor, device), device)


def element_numbers(count: int, frames: list[Atoms]) -> list[int]:
    """The elements of the structures, filled up to ``count`` from hydrogen on."""
    present = sorted({int(number) for atoms in frames for number in atoms.numbers})
    others = [number for number in range(1, count + len(present) + 1) if number not in present]
    return sorted([*present, *others[: count - len(present)]])


def make_model(size: str, numbers: list[int]) -> torch.nn.Module:
    settings = SIZES[size]
    torch.manual_seed(0)
    interaction = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=settings["r_max"],
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=settings["max_ell"],
        interaction_cls_first=interaction,
        interaction_cls=interaction,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(settings["hidden_irreps"]),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros((1, len(numbers))),
        avg_num_neighbors=10.0,
        atomic_numbers=numbers,
        correlation=settings["correlation"],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def make_batch(
    frames: list[Atoms], numbers: list[int], size: str, anchor: Anchor, device: torch.device
) -> Any:
    for atoms in frames:
        atoms.info.setdefault("REF_energy", 0.0)
    table = AtomicNumberTable(numbers)
    graphs = [
        data.AtomicData.from_config(
            data.config_from_atoms(atoms, key_specification=KeySpecification.from_defaults()),
            z_table=table,
            cutoff=SIZES[size]["r_max"],
        )
        for atoms in frames
    ]
    # one at a time, so that labelling never takes the most memory
    labels = anchor_dataset_labels(anchor, graphs, batch_size=1, device=device)
    dataset = WeakDataset(graphs, first_number=0, labels=labels, anchored=True)
    loader = torch_geometric.dataloader.DataLoader(dataset, batch_size=len(graphs), shuffle=False)
    return next(iter(loader)).to(device)
