"""The losses whose cost is measured, and the floor under each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mace import modules

from mace_weak.defaults import Situation, resolve
from mace_weak.mace.graphs import replicated_graph, whole_graph
from mace_weak.mace.kinds import position_energy
from mace_weak.mace.loss import Bridge, WeakLoss
from mace_weak.options import WeakOptions
from mace_weak.schedule import WeakSchedule
from recipes.benchmark.step_cost_model import Setting


@dataclass(frozen=True)
class Variant:
    """A loss with its options, and the name of its floor. Its terms come every ``period`` steps."""

    loss: str | None = None
    anchored: bool = False
    period: int = 1
    floor: str = ""


@dataclass(frozen=True)
class Floor:
    """Bare evaluations at displaced positions: energies alone, with forces, and by the anchor."""

    energies: int = 0
    forces: int = 0
    anchor_energies: int = 0
    anchor_forces: int = 0
    period: int = 1


FLOORS = {
    "floor of weak_taylor": Floor(energies=1),
    "floor of weak_spatial": Floor(energies=1, forces=1),
    "floor of weak_taylor, anchored": Floor(energies=1, anchor_energies=1),
    "floor of weak_spatial, anchored": Floor(
        energies=1, forces=1, anchor_energies=1, anchor_forces=1
    ),
}
VARIANTS = {
    "plain": Variant(),
    "weak_taylor": Variant("weak_taylor", floor="floor of weak_taylor"),
    "weak_spatial": Variant("weak_spatial", floor="floor of weak_spatial"),
    "weak_piwsl": Variant("weak_piwsl", floor="floor of weak_spatial"),
    "weak_taylor, anchored": Variant(
        "weak_taylor", anchored=True, floor="floor of weak_taylor, anchored"
    ),
    "weak_spatial, anchored": Variant(
        "weak_spatial", anchored=True, floor="floor of weak_spatial, anchored"
    ),
    "weak_piwsl, anchored": Variant(
        "weak_piwsl", anchored=True, floor="floor of weak_spatial, anchored"
    ),
    "weak_taylor, anchored, every 4th step": Variant("weak_taylor", anchored=True, period=4),
}


def make_loss(
    variant: Variant | Floor, model: torch.nn.Module, setting: Setting
) -> torch.nn.Module:
    supervised = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1.0)
    supervised.to(setting.device)
    if isinstance(variant, Floor):
        return FloorLoss(supervised, variant, model, setting)
    if variant.loss is None:
        return supervised
    options = WeakOptions.from_mapping({"weak_every": variant.period, "weak_schedule": "constant"})
    schedule = WeakSchedule(
        name=variant.loss,
        options=options,
        resolved=resolve(variant.loss, options, Situation(anchored=variant.anchored)),
        seed=0,
        n_epochs=1,
        steps_per_epoch=10**9,
        eligible=[True] * setting.n_structures,
    )
    anchor = setting.anchor if variant.anchored else None
    bridge = Bridge(variant.loss, schedule, model=model, anchor=anchor)
    return WeakLoss(supervised, bridge).to(setting.device)


class FloorLoss(torch.nn.Module):
    """A supervised loss with bare evaluations at displaced positions added to it."""

    def __init__(
        self, supervised: torch.nn.Module, floor: Floor, model: torch.nn.Module, setting: Setting
    ) -> None:
        super().__init__()
        self.supervised, self.floor, self.model = supervised, floor, model
        self.anchor = setting.anchor.model
        graph = whole_graph(setting.batch)
        positions = (graph["positions"] + 0.01).unsqueeze(0)
        self.graph = replicated_graph(graph, positions)

    def forward(self, ref: Any, pred: dict[str, Any]) -> torch.Tensor:
        loss = self.supervised(ref, pred)
        for _ in range(self.floor.anchor_energies):
            with torch.no_grad():
                self.anchor(dict(self.graph), training=False, compute_force=False)
        for _ in range(self.floor.anchor_forces):
            self.anchor(dict(self.graph), training=False, compute_force=True)
        for _ in range(self.floor.energies):
            output = self.model(dict(self.graph), training=True, compute_force=False)
            loss = loss + 1e-9 * position_energy(self.model, self.graph, output).square().mean()
        for _ in range(self.floor.forces):
            output = self.model(dict(self.graph), training=True, compute_force=True)
            loss = loss + 1e-9 * position_energy(self.model, self.graph, output).square().mean()
            loss = loss + 1e-9 * output["forces"].square().mean()
        return loss
