"""A real MACE as a potential: the same physics as on analytic potentials."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.io import read
from batches import batch_of
from scipy.spatial.transform import Rotation

from mace_weak.displacements import structure_displacements
from mace_weak.losses import SPATIAL, TAYLOR
from mace_weak.mace.anchor import make_anchor
from mace_weak.mace.graphs import Selection, graph_of, replicated_graph, whole_graph
from mace_weak.mace.potential import ModelPotential, position_energy
from mace_weak.potentials import Difference, Sample
from mace_weak.residuals import weak_residuals

BOTH = (TAYLOR, SPATIAL)
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(autouse=True)
def double() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def model(foundation) -> torch.nn.Module:
    return torch.load(foundation, weights_only=False)


@pytest.fixture
def copper_model(copper_foundation) -> torch.nn.Module:
    return torch.load(copper_foundation, weights_only=False)


@pytest.fixture
def frames(files) -> list[Atoms]:
    """Two ethanols and a water between them."""
    ethanol = read(files.ethanol, ":2")
    water = next(atoms for atoms in read(files.molecules, ":") if len(atoms) == 3)
    return [ethanol[0], water, ethanol[1]]


def displacements(frames: list[Atoms], length: float = 0.05) -> torch.Tensor:
    return structure_displacements(
        list(range(len(frames))),
        [len(atoms) for atoms in frames],
        n_replicas=2,
        seeds=(0, 0),
        length=length,
        direction="gaussian",
        atom_fraction=1.0,
    )


def potential_of(model: torch.nn.Module, batch, rows: list[int] | None = None) -> ModelPotential:
    selection = Selection.of(batch, list(range(batch.num_graphs)) if rows is None else rows)
    output = model(dict(batch.to_dict()), training=True)
    rest = Sample(
        selection.per_structure(position_energy(output)), selection.per_atom(output["forces"])
    )
    return ModelPotential(model, graph_of(batch, selection), rest)


def residuals(model, frames, moves=None) -> dict[str, torch.Tensor]:
    moves = displacements(frames) if moves is None else moves
    return weak_residuals(potential_of(model, batch_of(frames, model)), moves, BOTH)


def copper(files) -> list[Atoms]:
    return read(files.copper, ":3")


@pytest.mark.parametrize("term", BOTH)
def test_the_residual_shrinks_as_the_square_of_the_displacement(model, frames, term):
    moves = displacements(frames)
    norms = [
        float(residuals(model, frames, scale * moves)[term].detach().norm())
        for scale in (0.02, 0.01)
    ]
    assert norms[0] / norms[1] == pytest.approx(4.0, rel=0.03)


@pytest.mark.parametrize("system", ["molecules", "copper"])
@pytest.mark.parametrize("term", BOTH)
def test_batching_changes_nothing(model, copper_model, frames, files, system, term):
    used, structures = (model, frames) if system == "molecules" else (copper_model, copper(files))
    together = residuals(used, structures)[term]
    moves, start = displacements(structures), 0
    for number, atoms in enumerate(structures):
        own = moves[:, start : start + len(atoms)]
        start += len(atoms)
        alone = residuals(used, [atoms], own)[term]
        torch.testing.assert_close(alone, together[number : number + 1], **TOLERANCE)


@pytest.mark.parametrize("term", BOTH)
def test_permutation_rotation_and_translation_change_nothing(model, frames, term):
    expected = residuals(model, frames[:1])[term]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    moves = displacements(frames[:1])
    shuffled = residuals(model, [frames[0][order.tolist()]], moves[:, order])[term]
    torch.testing.assert_close(shuffled, expected, **TOLERANCE)
    rotation = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
    turned = frames[0].copy()
    turned.positions = turned.positions @ rotation.T + 2.0
    rotated = residuals(model, [turned], moves @ torch.tensor(rotation.T))[term]
    torch.testing.assert_close(rotated, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("term", BOTH)
def test_a_common_translation_gives_zero_in_a_periodic_cell(copper_model, files, term):
    structures = copper(files)
    moves = torch.tensor([[0.1, 0.2, -0.1], [-0.3, 0.0, 0.1]]).unsqueeze(1).repeat(1, 12, 1)
    residual = residuals(copper_model, structures, moves)[term]
    torch.testing.assert_close(residual, torch.zeros(3), rtol=0, atol=1e-9)


@pytest.mark.parametrize("term", BOTH)
def test_lone_atoms_and_empty_edges(model, frames, term):
    lone = Atoms("C", positions=[[0, 0, 0]])
    apart = Atoms("CO", positions=[[0, 0, 0], [0, 0, 30.0]])
    alone = residuals(model, [lone, apart])[term]
    torch.testing.assert_close(alone, torch.zeros(2), rtol=0, atol=1e-12)
    mixed = residuals(model, [lone, frames[0]])[term]
    assert float(mixed[0].detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(mixed[1].detach().abs()) > 1e-4


def test_selection_equals_a_batch_of_the_selected(model, frames):
    batch = batch_of(frames, model)
    chosen = graph_of(batch, Selection.of(batch, [0, 2]))
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


@pytest.mark.parametrize("system", ["molecules", "copper"])
def test_kept_neighbour_lists_cost_less_than_1e_5_ev(model, copper_model, frames, files, system):
    used, structures = (model, frames) if system == "molecules" else (copper_model, copper(files))
    moves = displacements(structures)[:1]
    kept = potential_of(used, batch_of(structures, used)).displaced(moves, forces=False).energy[0]
    moved, start = [], 0
    for atoms in structures:
        copy = atoms.copy()
        copy.positions += moves[0, start : start + len(atoms)].numpy()
        start += len(atoms)
        moved.append(copy)
    rebuilt = potential_of(used, batch_of(moved, used)).rest().energy
    assert float((kept - rebuilt).detach().abs().max()) < 1e-5


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
