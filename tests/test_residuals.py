"""The physics of the residuals, on analytic potentials."""

from __future__ import annotations

import pytest
import torch
from potentials import AnalyticPotential, harmonic, morse, pairwise, softer_morse
from scipy.spatial.transform import Rotation
from torch import Tensor

from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.potentials import Difference, Potential, Reference, Referenced, Sample
from mace_weak.residuals import (
    expansion_residual,
    spatial_residual,
    taylor_residual,
    weak_residuals,
    work,
)

BOTH = (TAYLOR, SPATIAL)


@pytest.fixture
def stiffness() -> Tensor:
    root = torch.tensor([[3.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 4.0]], dtype=torch.float64)
    return root @ root.T


@pytest.fixture
def molecule(positions, structure) -> AnalyticPotential:
    return AnalyticPotential(positions, structure, pairwise(morse))


@pytest.fixture
def anchored(molecule) -> Difference:
    anchor = AnalyticPotential(molecule.positions, molecule.structure, pairwise(softer_morse))
    return Difference(molecule, anchor)


def curvature(displacement: Tensor, stiffness: Tensor, structure: Tensor) -> Tensor:
    return 0.5 * work(displacement @ stiffness, displacement, structure, 3)


def test_harmonic_taylor_residual_is_half_d_k_d(positions, structure, displacements, stiffness):
    potential = AnalyticPotential(positions, structure, harmonic(stiffness))
    expected = curvature(displacements[0], stiffness, structure)
    torch.testing.assert_close(taylor_residual(potential, displacements[0]), expected)


def test_harmonic_spatial_residual_is_half_of_the_step(
    positions, structure, displacements, stiffness
):
    potential = AnalyticPotential(positions, structure, harmonic(stiffness))
    expected = curvature(displacements[0] - displacements[1], stiffness, structure)
    torch.testing.assert_close(spatial_residual(potential, *displacements), expected)


@pytest.mark.parametrize("term", BOTH)
def test_a_potential_anchored_on_itself_has_no_residual(molecule, displacements, term):
    residual = weak_residuals(Difference(molecule, molecule), displacements, BOTH)[term]
    assert torch.count_nonzero(residual) == 0


@pytest.fixture
def tilted(positions, structure, stiffness) -> Difference:
    """A potential and its anchor of the same curvature, whose forces differ by −0.7 eV/Å."""

    def shifted(positions, structure, n_structures):
        linear = work(torch.ones_like(positions), positions, structure, n_structures)
        return harmonic(stiffness)(positions, structure, n_structures) + 0.7 * linear + 5.0

    return Difference(
        AnalyticPotential(positions, structure, shifted),
        AnalyticPotential(positions, structure, harmonic(stiffness)),
    )


def test_a_constant_curvature_shared_with_the_anchor_cancels(tilted, displacements):
    residual = taylor_residual(tilted, displacements[0])
    torch.testing.assert_close(residual, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_an_expansion_of_order_0_sees_the_forces(tilted, structure, displacements):
    """It is the work of the force that the anchor lacks, and asks for no forces."""
    found = weak_residuals(EnergiesAlone(tilted), displacements, BOTH, order=0)
    for term, step in ((TAYLOR, displacements[0]), (SPATIAL, displacements[0] - displacements[1])):
        expected = work(torch.full_like(step, 0.7), step, structure, 3)
        torch.testing.assert_close(found[term], expected)


class EnergiesAlone:
    """A potential that has no forces to give."""

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self.structure = potential.structure

    def rest(self) -> Sample:
        return Sample(self.potential.rest().energy, None)

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        assert not forces
        return self.potential.displaced(displacements, forces=False)


@pytest.mark.parametrize("form", ["plain", "anchored"])
@pytest.mark.parametrize("term", BOTH)
def test_residual_shrinks_as_the_square_of_the_displacement(
    molecule, anchored, displacements, form, term
):
    potential = molecule if form == "plain" else anchored
    norms = [
        float(weak_residuals(potential, scale * displacements, BOTH)[term].detach().norm())
        for scale in (1e-2, 5e-3)
    ]
    assert norms[0] / norms[1] == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("term", BOTH)
def test_the_anchored_residual_is_smaller(molecule, anchored, displacements, term):
    plain = weak_residuals(molecule, displacements, BOTH)[term].norm()
    assert weak_residuals(anchored, displacements, BOTH)[term].norm() < 0.5 * plain


def test_work_is_the_energy_difference_to_second_order(molecule, displacements):
    """The midpoint force integrates the energy difference with an error of third order."""

    def error(scale: float) -> float:
        step = scale * displacements[0]
        midpoint = molecule.sample(molecule.positions + 0.5 * step).forces
        difference = molecule.sample(molecule.positions + step).energy - molecule.rest().energy
        error = difference + work(midpoint, step, molecule.structure, 3)
        return float(error.detach().norm())

    assert error(0.2) / error(0.1) == pytest.approx(8.0, rel=0.1)


@pytest.mark.parametrize("term", BOTH)
def test_a_common_translation_does_nothing(molecule, term):
    shift = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    displacements = torch.stack([shift.expand(8, 3), -0.5 * shift.expand(8, 3)])
    residual = weak_residuals(molecule, displacements, BOTH)[term]
    torch.testing.assert_close(residual, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("term", BOTH)
def test_rotation_and_translation_of_the_structures_change_nothing(molecule, displacements, term):
    rotation = torch.tensor(Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix())
    turned = AnalyticPotential(
        molecule.positions @ rotation.T + 3.0, molecule.structure, molecule.energy
    )
    torch.testing.assert_close(
        weak_residuals(turned, displacements @ rotation.T, BOTH)[term],
        weak_residuals(molecule, displacements, BOTH)[term],
    )


@pytest.mark.parametrize("term", BOTH)
def test_relabelling_of_atoms_changes_nothing(molecule, displacements, term):
    order = torch.tensor([2, 0, 1, 3, 7, 5, 4, 6])
    relabelled = AnalyticPotential(
        molecule.positions[order], molecule.structure[order], molecule.energy
    )
    torch.testing.assert_close(
        weak_residuals(relabelled, displacements[:, order], BOTH)[term],
        weak_residuals(molecule, displacements, BOTH)[term],
    )


@pytest.mark.parametrize("term", BOTH)
def test_batching_changes_nothing(molecule, displacements, term):
    together = weak_residuals(molecule, displacements, BOTH)[term]
    for number in range(3):
        atoms = molecule.structure == number
        alone = AnalyticPotential(
            molecule.positions[atoms],
            torch.zeros(int(atoms.sum()), dtype=torch.long),
            molecule.energy,
        )
        residual = weak_residuals(alone, displacements[:, atoms], BOTH)[term]
        torch.testing.assert_close(residual, together[number : number + 1])


def test_the_shared_call_equals_separate_ones(molecule, displacements):
    both = weak_residuals(molecule, displacements, BOTH)
    torch.testing.assert_close(both[TAYLOR], taylor_residual(molecule, displacements[0]))
    torch.testing.assert_close(both[SPATIAL], spatial_residual(molecule, *displacements))


def test_labels_replace_energies_and_forces_where_they_exist(molecule, displacements):
    reference = Reference(
        energy=torch.tensor([7.0, 8.0, 9.0], dtype=torch.float64),
        forces=torch.full((8, 3), 2.0, dtype=torch.float64),
        has_energy=torch.tensor([True, False, True]),
        has_forces=torch.tensor([False, False, True]),
    )
    labels = Referenced(molecule, reference)
    rest, own = labels.rest(), molecule.rest()
    assert rest.energy.tolist() == [7.0, float(own.energy[1].detach()), 9.0]
    torch.testing.assert_close(rest.forces[:4], own.forces[:4])
    torch.testing.assert_close(rest.forces[4:], torch.full((4, 3), 2.0, dtype=torch.float64))
    moved = molecule.displaced(displacements[:1], forces=False).energy[0]
    expected = expansion_residual(rest, moved, displacements[0], molecule.structure)
    torch.testing.assert_close(taylor_residual(labels, displacements[0]), expected)


def test_an_expansion_without_forces_is_refused(molecule, displacements):
    here = Sample(molecule.rest().energy, None)
    with pytest.raises(ValueError, match="forces at its starting point"):
        expansion_residual(here, here.energy, displacements[0], molecule.structure)


@pytest.mark.parametrize("term", BOTH)
def test_gradients_of_first_and_second_order(positions, structure, displacements, term):
    """In the parameters of the potential, through every energy and force."""

    def residual(depth: Tensor, width: Tensor) -> Tensor:
        def pair(distance: Tensor) -> Tensor:
            return depth * (1.0 - torch.exp(-width * (distance - 1.2))) ** 2

        potential = AnalyticPotential(positions, structure, pairwise(pair))
        return weak_residuals(potential, displacements, BOTH)[term]

    parameters = tuple(
        torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (4.0, 2.0)
    )
    assert torch.autograd.gradcheck(residual, parameters)
    assert torch.autograd.gradgradcheck(residual, parameters)


def test_the_forces_term_is_the_mean_square_of_the_differences(
    molecule, anchored, structure, displacements
):
    found = weak_residuals(anchored, displacements[:1], (TAYLOR, FORCES), order=0)
    moved = anchored.displaced(displacements[:1], forces=True).forces[0]
    for number in range(3):
        own = moved[structure == number]
        torch.testing.assert_close(found[FORCES][number], own.square().mean())
    alone = weak_residuals(anchored, displacements[:1], (TAYLOR,), order=0)
    torch.testing.assert_close(found[TAYLOR], alone[TAYLOR])
