"""A real NequIP model as a potential: the same physics as on analytic potentials."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from ase import Atoms
from batches import batch_of
from nequip.data import AtomicDataDict
from physics import BOTH, HostPhysics, displacements, frames, system
from training import MOLECULE_TYPES, scratch_model

from mace_weak.nequip.anchor import GraphPotential, Models, make_anchor
from mace_weak.nequip.graphs import displaced_replicas, inputs_of, subset_of
from mace_weak.potentials import Difference, Sample
from mace_weak.residuals import weak_residuals

__all__ = ["frames", "system"]  # fixtures
pytestmark = pytest.mark.usefixtures("nequip_dtype")


def model_of(types: list[str], *, dtype: str = "float64", **arguments: Any) -> torch.nn.Module:
    """A model with random weights."""
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    config = {**scratch_model(types), "model_dtype": dtype, **arguments}
    config.pop("_target_")
    return NequIPGNNModel(**config).train()


@pytest.fixture
def model(nequip_dtype) -> torch.nn.Module:
    return model_of(MOLECULE_TYPES)


def potential_of(model, batch, rows=None) -> GraphPotential:
    rows = range(AtomicDataDict.num_frames(batch)) if rows is None else rows
    models = Models.of(model)
    chosen = inputs_of(batch, models.input_keys, rows)
    output = model(chosen)
    rest = Sample(output["total_energy"].view(-1), output["forces"])
    return GraphPotential(models, chosen, rest)


@dataclass
class NequipHost:
    molecules: torch.nn.Module
    copper: torch.nn.Module

    def potential(self, frames: list[Atoms]) -> GraphPotential:
        if "Cu" in frames[0].symbols:
            return potential_of(self.copper, batch_of(frames, types=["Cu"]))
        return potential_of(self.molecules, batch_of(frames))


@pytest.fixture
def host(model) -> NequipHost:
    return NequipHost(model, model_of(["Cu"]))


class TestNequip(HostPhysics):
    """A real NequIP model shows the physics of any potential."""


def test_energies_alone_equal_those_with_forces(host, system):
    potential = host.potential(system)
    moves = displacements(system)
    with_forces = potential.displaced(moves, forces=True)
    alone = potential.displaced(moves, forces=False)
    assert alone.forces is None
    torch.testing.assert_close(alone.energy, with_forces.energy, rtol=0, atol=1e-12)


def test_energies_alone_take_no_forces(host, frames, monkeypatch):
    """The twin skips the derivatives: it never differentiates."""
    potential = host.potential(frames)
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("differentiated"))
    assert potential.displaced(displacements(frames), forces=False).energy.requires_grad


def test_the_twin_shares_the_parameters_through_training(model):
    twin = Models.of(model).energies
    own = dict(model.named_parameters())
    assert {name: id(p) for name, p in twin.named_parameters()} == {
        name: id(p) for name, p in own.items()
    }
    assert model.model.do_derivatives


def test_selection_equals_a_batch_of_the_selected(model, frames):
    batch = batch_of(frames)
    chosen = inputs_of(batch, model.model_input_fields, [0, 2])
    expected = inputs_of(batch_of([frames[0], frames[2]]), model.model_input_fields, [0, 1])
    assert chosen.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(chosen[key], value, rtol=0, atol=0)
    torch.testing.assert_close(subset_of(batch, [0, 2]).per_atom(batch["pos"]), chosen["pos"])


def test_replicas_equal_a_batch_of_copies(host, system):
    graph = host.potential(system).graph
    twice = displaced_replicas(graph, torch.zeros(2, *graph["pos"].shape))
    types = ["Cu"] if "Cu" in system[0].symbols else MOLECULE_TYPES
    expected = batch_of([*system, *system], types=types)
    assert twice.keys() == graph.keys()
    for key, value in twice.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


def anchor_of(model, types=MOLECULE_TYPES):
    return make_anchor(model, trained=model, type_names=types, device=torch.device("cpu"))


@pytest.mark.parametrize("term", BOTH)
def test_gradients_reach_the_parameters_and_never_the_anchor(model, frames, term):
    anchor = anchor_of(deepcopy(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    own = potential_of(model, batch_of(frames))
    rest = anchor.label(own.graph)
    potential = Difference(own, anchor.potential(own.graph, rest))
    weak_residuals(potential, displacements(frames), BOTH)[term].square().sum().backward()
    assert all(parameter.grad is None for parameter in anchor.models.full.parameters())
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert len(norms) > 5
    assert float(max(norms)) > 0


@pytest.mark.parametrize("term", BOTH)
def test_a_model_anchored_on_itself_has_no_residual(model, frames, term):
    own = potential_of(model, batch_of(frames))
    anchor = anchor_of(model)
    potential = Difference(own, anchor.potential(own.graph, anchor.label(own.graph)))
    residual = weak_residuals(potential, displacements(frames), BOTH)[term]
    torch.testing.assert_close(residual, torch.zeros(3), rtol=0, atol=1e-10)


def test_an_anchor_of_more_types_in_another_order(model, frames):
    """Where the training knows fewer elements, the anchor still sees its own types."""
    types = ["O", "C", "H"]
    anchor = anchor_of(model, types)
    batch = batch_of(frames, types=types)
    graph = inputs_of(batch, model.model_input_fields, range(3))
    expected = potential_of(model, batch_of(frames)).rest()
    found = anchor.label(graph)
    torch.testing.assert_close(found.energy, expected.energy.detach())
    torch.testing.assert_close(found.forces, expected.forces.detach())
