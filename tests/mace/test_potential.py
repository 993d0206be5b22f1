"""A real MACE as a potential: the same physics as on analytic potentials."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from ase import Atoms
from batches import batch_of
from physics import BOTH, HostPhysics, copper, displacements, frames, system

from mace_weak.mace.anchor import ModelPotential, make_anchor
from mace_weak.mace.graphs import graph_of, replicated_graph, subset_of, whole_graph
from mace_weak.mace.kinds import extra_inputs, position_energy
from mace_weak.potentials import Difference, Sample
from mace_weak.residuals import weak_residuals

__all__ = ["frames", "system"]  # fixtures

pytestmark = pytest.mark.usefixtures("double")


def potential_of(model: torch.nn.Module, batch, rows: list[int] | None = None) -> ModelPotential:
    subset = subset_of(batch, list(range(batch.num_graphs)) if rows is None else rows)
    output = model(whole_graph(batch, extra_inputs(model)), training=True)
    energy = position_energy(model, batch, output)
    rest = Sample(subset.per_structure(energy), subset.per_atom(output["forces"]))
    return ModelPotential(model, graph_of(batch, subset, extra_inputs(model)), rest)


@dataclass
class MaceHost:
    """The models of the fixtures, by what they know."""

    molecules: torch.nn.Module
    copper: torch.nn.Module

    def potential(self, frames: list[Atoms]) -> ModelPotential:
        model = self.copper if "Cu" in frames[0].symbols else self.molecules
        return potential_of(model, batch_of(frames, model))


@pytest.fixture
def host(model, copper_model) -> MaceHost:
    return MaceHost(model, copper_model)


class TestMace(HostPhysics):
    """A real MACE shows the physics of any potential."""


def test_selection_equals_a_batch_of_the_selected(model, frames):
    batch = batch_of(frames, model)
    chosen = graph_of(batch, subset_of(batch, [0, 2]))
    expected = whole_graph(batch_of([frames[0], frames[2]], model))
    assert chosen.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(chosen[key], value, rtol=0, atol=0)


def test_replicas_equal_a_batch_of_copies(copper_model, files):
    structures = copper(files)
    graph = whole_graph(batch_of(structures, copper_model))
    twice = replicated_graph(graph, graph["positions"].repeat(2, 1, 1))
    expected = whole_graph(batch_of([*structures, *structures], copper_model))
    assert twice.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(twice[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("term", BOTH)
def test_gradients_reach_the_parameters_and_never_the_anchor(model, frames, term):
    anchor = make_anchor(
        model, atomic_numbers=model.atomic_numbers.tolist(), training_heads=["Default"],
        weak_heads=["Default"], r_max=float(model.r_max), device="cpu",
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    batch = batch_of(frames, model)
    rest = anchor.label(whole_graph(batch))
    own = potential_of(model, batch)
    potential = Difference(own, anchor.potential(whole_graph(batch), rest))
    weak_residuals(potential, displacements(frames), BOTH)[term].square().sum().backward()
    assert all(parameter.grad is None for parameter in anchor.model.parameters())
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert len(norms) > 5
    assert float(max(norms)) > 0


@pytest.mark.parametrize("term", BOTH)
def test_a_model_anchored_on_itself_has_no_residual(model, frames, term):
    """Also where the training knows fewer elements than the anchor."""
    numbers = [1, 6, 8]
    anchor = make_anchor(
        model, atomic_numbers=numbers, training_heads=["Default"], weak_heads=["Default"],
        r_max=float(model.r_max), device="cpu",
    )  # fmt: skip
    graph = whole_graph(batch_of(frames, model, numbers=numbers))
    rest = anchor.label(graph)
    own = potential_of(model, batch_of(frames, model))
    potential = Difference(own, anchor.potential(graph, rest))
    residual = weak_residuals(potential, displacements(frames), BOTH)[term]
    torch.testing.assert_close(residual, torch.zeros(3), rtol=0, atol=1e-10)
