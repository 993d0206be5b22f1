"""The tangent model of a real MACE: physics, gradients by the parameters, and as an anchor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from batches import batch_of, data_of
from physics import HostPhysics, displacements, frames, system

from mace_weak.mace.anchor import make_anchor
from mace_weak.mace.graphs import whole_graph
from mace_weak.mace.tangent import ParametricModel, composition, predicted
from mace_weak.mace.tangent_anchor import TangentAnchor
from mace_weak.potentials import Sample
from mace_weak.tangent.evidence import Choice
from mace_weak.tangent.fit import Account, Labels, Settings, Tangent, fit
from mace_weak.tangent.gradients import Coordinates, Features, coordinates_of, force_rows, scales_of
from mace_weak.tangent.potential import TangentPotential
from mace_weak.tangent.storage import fingerprint, load, save

__all__ = ["frames", "system"]  # fixtures

pytestmark = pytest.mark.usefixtures("double")

CPU = torch.device("cpu")
ACCOUNT = Account(
    energies=0, force_components=0, choice=Choice(1e-3, 1.0, {}, 0.1), energy_error=0.0,
    calibration=1.0, force_error=0.1, foundation_force_error=0.3, force_change=0.3,
)  # fmt: skip


def parametric(model: torch.nn.Module, frames: list[Atoms]) -> ParametricModel:
    return ParametricModel(model, data_of(frames, model), device=CPU)


def moved_at_random(own: ParametricModel, *, size: float = 0.05) -> Tangent:
    """A tangent model with a random change of all parameters."""
    scale = scales_of(own.parameters)
    coordinates = Coordinates(own.parameters, torch.ones(len(scale), dtype=torch.bool), scale)
    generator = torch.Generator().manual_seed(0)
    change = size * torch.randn(len(coordinates), dtype=torch.float64, generator=generator)
    return Tangent(coordinates, change, np.zeros(len(own.model.atomic_numbers)), ACCOUNT)


def tangent_potential(own: ParametricModel, tangent: Tangent) -> TangentPotential:
    return tangent.potential(own, range(len(own.sizes)))


@dataclass
class TangentHost:
    """The tangent models of the fixtures' models, by what they know."""

    molecules: torch.nn.Module
    copper: torch.nn.Module

    def potential(self, frames: list[Atoms]) -> TangentPotential:
        model = self.copper if "Cu" in frames[0].symbols else self.molecules
        own = parametric(model, frames)
        return tangent_potential(own, moved_at_random(own))


@pytest.fixture
def host(model, copper_model) -> TangentHost:
    return TangentHost(model, copper_model)


class TestTangent(HostPhysics):
    """The tangent model shows the physics of any potential."""


def test_energies_and_forces_are_the_derivative_along_the_parameters(model, frames):
    own = parametric(model, frames)
    tangent = moved_at_random(own)
    found = tangent_potential(own, tangent).rest()
    step, values = 1e-4, {}
    before = [parameter.detach().clone() for parameter in own.parameters]
    directions = tangent.coordinates.directions(tangent.change)
    for sign in (-1, 0, 1):
        with torch.no_grad():
            for parameter, start, direction in zip(own.parameters, before, directions, strict=True):
                parameter.copy_(start + sign * step * direction)
        values[sign] = predicted(own, lambda done: None)
    energy = values[0].energies + (values[1].energies - values[-1].energies) / (2 * step)
    np.testing.assert_allclose(found.energy.numpy() + values[0].constants, energy, rtol=1e-7)
    forces = [
        start + (there - back) / (2 * step)
        for start, there, back in zip(
            values[0].forces, values[1].forces, values[-1].forces, strict=True
        )
    ]
    np.testing.assert_allclose(found.forces.numpy(), np.concatenate(forces), rtol=1e-5, atol=1e-7)


def test_forces_are_the_slopes_of_the_energies(model, frames):
    own = parametric(model, frames)
    potential = tangent_potential(own, moved_at_random(own))
    moves = 1e-4 * displacements(frames) / 0.05
    there = potential.displaced(torch.stack([moves[0], -moves[0]]), forces=False).energy
    forces = potential.rest().forces
    work = torch.zeros(3).index_add(0, potential.structure, (forces * moves[0]).sum(dim=1))
    torch.testing.assert_close((there[1] - there[0]) / 2, work, rtol=1e-5, atol=1e-10)


def test_rows_of_forces_are_the_slopes_of_the_rows_of_energies(model, frames):
    own = parametric(model, frames[1:2])
    coordinates, surface = coordinates_of(own), own.surface([0])
    rows = force_rows(surface, coordinates)
    step = torch.zeros(3, 3)
    step[1, 2] = 1e-4
    features = Features(surface, coordinates).displaced(torch.stack([step, -step]), forces=False)
    slope = (features.energy[0, 0] - features.energy[1, 0]) / 2e-4
    torch.testing.assert_close(-slope, rows[5], rtol=1e-5, atol=1e-8)


def test_parameters_of_absent_elements_are_left_out(model, files):
    water = [atoms for atoms in read(files.molecules, ":") if len(atoms) == 3][:2]
    some = coordinates_of(parametric(model, water))
    all_of_them = coordinates_of(parametric(model, read(files.molecules, ":")))
    assert len(some) < 0.9 * len(all_of_them)
    assert bool((some.active <= all_of_them.active).all())


def labels_of(own: ParametricModel, frames: list[Atoms]) -> Labels:
    energies = np.array([atoms.info["REF_energy"] for atoms in frames])
    start = predicted(own, lambda done: None)
    return Labels(composition(own), energies - start.energies, [None] * len(frames))


def test_the_solution_does_not_depend_on_the_order_of_structures(model, files):
    frames = read(files.ethanol, ":8")
    changes = []
    for chosen in (frames, frames[::-1]):
        own = parametric(model, chosen)
        tangent, _ = fit(own, labels_of(own, chosen), Settings())
        changes.append(tangent.change)
    torch.testing.assert_close(*changes, rtol=1e-3, atol=1e-6 * float(changes[0].abs().max()))


def test_a_file_holds_the_tangent_model_of_its_own_labels_alone(model, files, tmp_path):
    frames = read(files.ethanol, ":8")
    own = parametric(model, frames)
    labels, settings = labels_of(own, frames), Settings()
    tangent, _ = fit(own, labels, settings)
    mark = fingerprint(own, labels, settings)
    save(tmp_path / "solution.npz", tangent, mark)
    known = load(tmp_path / "solution.npz", own.parameters, mark)
    assert known.account == tangent.account
    before, after = (tangent_potential(own, one).rest() for one in (tangent, known))
    torch.testing.assert_close(after.energy, before.energy, rtol=0, atol=0)
    torch.testing.assert_close(after.forces, before.forces, rtol=0, atol=0)
    others = Labels(labels.counts, labels.energies + 1e-3 * np.arange(8), labels.forces)
    assert (
        load(tmp_path / "solution.npz", own.parameters, fingerprint(own, others, settings)) is None
    )


def test_as_an_anchor_it_is_the_same_where_the_training_knows_fewer_elements(model, frames):
    numbers = [1, 6, 8]
    foundation = make_anchor(
        model, atomic_numbers=numbers, training_heads=["Default"], weak_heads=["Default"],
        r_max=float(model.r_max), device="cpu",
    )  # fmt: skip
    own = parametric(model, frames)
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
