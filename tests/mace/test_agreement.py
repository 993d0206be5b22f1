"""The weak part has the scale that NequIP's test of the same name finds."""

from __future__ import annotations

import pytest
import torch
from agreement import ENERGY, LEARNING_RATE, expected_ratios, labelled_frames, schedule
from batches import batch_of
from mace import modules

from mace_weak.mace.loss import Bridge, WeakLoss


class MorseModel(torch.nn.Module):
    """The analytic potential with what the adapter asks of a model of MACE."""

    atomic_numbers = torch.tensor([1, 6, 7, 8])
    r_max = torch.tensor(4.0)

    def forward(self, data, training=False, compute_force=True):
        positions = data["positions"].requires_grad_()
        energy = ENERGY(positions, data["batch"], len(data["ptr"]) - 1)
        forces = None
        if compute_force:
            (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=training)
            forces = -gradient
        return {"energy": energy, "forces": forces}


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("energy_weight", [1.0, 3.0])
def test_the_ratio_of_weak_to_supervised_is_that_of_the_core(energy_weight, order):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    model, frames = MorseModel(), labelled_frames()
    batch = batch_of(frames, model)
    supervised = modules.WeightedEnergyForcesLoss(energy_weight=energy_weight, forces_weight=0.0)
    bridge = Bridge("weak_piwsl", schedule(order), model=model, learning_rate=lambda: LEARNING_RATE)
    bridge.set_epoch(2)
    loss = WeakLoss(supervised, bridge)
    loss(ref=batch, pred=model(batch, training=True))
    (entry,) = bridge.ledger._pending
    torch.set_default_dtype(before)
    expected = expected_ratios(frames, order)
    assert set(expected) == {"taylor", "spatial"}
    for term, ratio in expected.items():
        assert (entry.parts[term] / entry.supervised).item() == pytest.approx(ratio, rel=1e-9)
