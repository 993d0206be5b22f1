"""The tangent model of a real NequIP: physics, gradients by the parameters, and as an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from batches import batch_of, data_of
from physics import HostPhysics, displacements, frames, system
from tangent_physics import Parametric, TangentPhysics, moved_at_random, tangent_potential
from test_potential import model, model_of
from training import MOLECULE_TYPES

from mace_weak.nequip.anchor import make_anchor
from mace_weak.nequip.tangent import ParametricModel, TangentAnchor, double
from mace_weak.tangent.gradients import TangentPotential

__all__ = ["frames", "model", "system"]  # fixtures
pytestmark = pytest.mark.usefixtures("nequip_dtype")


def parametric_of(model: torch.nn.Module, frames: list[Atoms]) -> ParametricModel:
    data = data_of(frames, types=model.type_names)
    return ParametricModel(model, data, device=torch.device("cpu"))


@pytest.fixture
def parametric(model) -> Parametric:
    return partial(parametric_of, model)


@dataclass
class TangentHost:
    """The tangent models of two models, by what they know."""

    molecules: torch.nn.Module
    copper: torch.nn.Module

    def potential(self, frames: list[Atoms]) -> TangentPotential:
        own = parametric_of(self.copper if "Cu" in frames[0].symbols else self.molecules, frames)
        return tangent_potential(own, moved_at_random(own))


@pytest.fixture
def host(model) -> TangentHost:
    return TangentHost(model, model_of(["Cu"]))


class TestTangent(HostPhysics, TangentPhysics):
    """The tangent model shows the physics of any potential."""

    present = 1.0  # of so small a model, most parameters are of all elements


def test_a_model_of_single_precision_is_solved_in_double(frames):
    """In single precision, energies at places 1e-4 Å apart would differ by rounding."""
    single = model_of(MOLECULE_TYPES, dtype="float32")
    energies = single(batch_of(frames))["total_energy"].detach().flatten().numpy()
    own = parametric_of(single, frames)
    np.testing.assert_allclose(own.predicted(lambda done: None).energies, energies, rtol=1e-5)
    surface, move = own.surface([0]), displacements(frames)[:1, :9] * 1e-4
    there, back = (surface.energy(sign * move)[0] for sign in (1, -1))
    work = -float((torch.tensor(own.predicted(lambda done: None).forces[0]) * move).sum())
    assert float((there - back).detach()) / 2 == pytest.approx(work, rel=1e-6)
    assert {p.dtype for p in double(single).parameters()} == {torch.float64}


def test_energies_of_the_atoms_are_no_parameters(frames):
    """They are the shifts of the solution, even where the foundation model trains them."""
    trained = model_of(MOLECULE_TYPES, per_type_energy_shifts_trainable=True)
    fixed = model_of(MOLECULE_TYPES)
    count = [len(parametric_of(one, frames).parameters) for one in (trained, fixed)]
    assert count[0] == count[1]


def test_as_an_anchor_it_is_the_same_where_the_training_knows_fewer_types(model, frames):
    types = ["O", "H", "C"]
    trained = model_of(types)
    foundation = make_anchor(model, trained=trained, type_names=types, device=torch.device("cpu"))
    own = parametric_of(model, frames)
    tangent = moved_at_random(own)
    anchor = TangentAnchor(foundation, own, tangent)
    graph = batch_of(frames, types=types)
    moves = displacements(frames)[:1]
    rest = anchor.label(graph)
    found = anchor.potential(graph, rest).displaced(moves, forces=True)
    expected = tangent_potential(own, tangent).displaced(moves, forces=True)
    torch.testing.assert_close(found.energy, expected.energy)
    torch.testing.assert_close(found.forces, expected.forces)
    torch.testing.assert_close(rest.forces, tangent_potential(own, tangent).rest().forces)
