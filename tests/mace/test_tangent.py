"""The tangent model of a real MACE: physics, gradients by the parameters, and as an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from ase import Atoms
from ase.io import read
from batches import batch_of, data_of
from physics import HostPhysics, displacements, frames, system
from tangent_physics import (
    Parametric,
    TangentPhysics,
    labels_of,
    moved_at_random,
    tangent_potential,
)

from mace_weak.mace.anchor import make_anchor
from mace_weak.mace.graphs import whole_graph
from mace_weak.mace.tangent import ParametricModel, TangentAnchor
from mace_weak.potentials import Sample
from mace_weak.tangent.fit import fit
from mace_weak.tangent.gradients import TangentPotential
from mace_weak.tangent.plan import Settings

__all__ = ["frames", "system"]  # fixtures

pytestmark = pytest.mark.usefixtures("double")

CPU = torch.device("cpu")


def parametric_of(model: torch.nn.Module, frames: list[Atoms]) -> ParametricModel:
    return ParametricModel(model, data_of(frames, model), device=CPU)


@pytest.fixture
def parametric(model) -> Parametric:
    return partial(parametric_of, model)


@dataclass
class TangentHost:
    """The tangent models of the fixtures' models, by what they know."""

    molecules: torch.nn.Module
    copper: torch.nn.Module

    def potential(self, frames: list[Atoms]) -> TangentPotential:
        model = self.copper if "Cu" in frames[0].symbols else self.molecules
        own = parametric_of(model, frames)
        return tangent_potential(own, moved_at_random(own))


@pytest.fixture
def host(model, copper_model) -> TangentHost:
    return TangentHost(model, copper_model)


class TestTangent(HostPhysics, TangentPhysics):
    """The tangent model shows the physics of any potential."""


def test_as_an_anchor_it_is_the_same_where_the_training_knows_fewer_elements(model, frames):
    numbers = [1, 6, 8]
    foundation = make_anchor(
        model, atomic_numbers=numbers, training_heads=["Default"], weak_heads=["Default"],
        r_max=float(model.r_max), device="cpu",
    )  # fmt: skip
    own = parametric_of(model, frames)
    tangent = moved_at_random(own)
    graph = whole_graph(batch_of(frames, model, numbers=numbers))
    anchor = TangentAnchor(foundation, own, tangent)
    moves = displacements(frames)[:1]
    rest = anchor.label(graph)
    found = anchor.potential(graph, rest).displaced(moves, forces=True)
    expected = tangent_potential(own, tangent).displaced(moves, forces=True)
    torch.testing.assert_close(found.energy, expected.energy)
    torch.testing.assert_close(found.forces, expected.forces)
    torch.testing.assert_close(rest.forces, tangent_potential(own, tangent).rest().forces)
    single = {
        key: value.float() if value.is_floating_point() else value for key, value in graph.items()
    }
    nothing = Sample(torch.empty(0), None)
    assert (
        anchor.potential(single, nothing).displaced(moves, forces=True).forces.dtype
        == torch.float32
    )


@pytest.mark.cuda
def test_a_gpu_gives_the_same_solution(model, files):
    frames = read(files.ethanols, ":20")
    changes = []
    for device in ("cpu", "cuda"):
        own = ParametricModel(model, data_of(frames, model), device=torch.device(device))
        tangent, _ = fit(own, labels_of(own, frames), Settings())
        changes.append(tangent.change.cpu())
    torch.testing.assert_close(*changes, rtol=1e-3, atol=1e-5 * float(changes[0].abs().max()))
