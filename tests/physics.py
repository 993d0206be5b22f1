"""The physics that a host's model must show as a potential of the core, whatever the host.

Each host's tests inherit ``HostPhysics`` and give a fixture ``host``.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import pytest
import torch
from ase import Atoms
from ase.io import read
from datafiles import Files
from scipy.spatial.transform import Rotation
from torch import Tensor

from mace_weak.displacements import structure_displacements
from mace_weak.losses import SPATIAL, TAYLOR
from mace_weak.potentials import Potential
from mace_weak.residuals import weak_residuals

BOTH = (TAYLOR, SPATIAL)
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


class Host(Protocol):
    """A host with a model of molecules and one of copper, in float64."""

    def potential(self, frames: list[Atoms]) -> Potential:
        """The model that knows the elements, on a batch of the structures."""


def molecules(files: Files) -> list[Atoms]:
    """Two ethanols and a water between them."""
    ethanol = read(files.ethanol, ":2")
    water = next(atoms for atoms in read(files.molecules, ":") if len(atoms) == 3)
    return [ethanol[0], water, ethanol[1]]


def copper(files: Files) -> list[Atoms]:
    return read(files.copper, ":3")


def displacements(frames: list[Atoms], length: float = 0.05) -> Tensor:
    return structure_displacements(
        list(range(len(frames))),
        [len(atoms) for atoms in frames],
        n_replicas=2,
        seeds=(0, 0),
        length=length,
        direction="gaussian",
        atom_fraction=1.0,
    )


def residuals(host: Host, frames: list[Atoms], moves: Tensor | None = None) -> dict[str, Tensor]:
    moves = displacements(frames) if moves is None else moves
    found = weak_residuals(host.potential(frames), moves, BOTH)
    return {term: residual.detach() for term, residual in found.items()}


@pytest.fixture
def frames(files) -> list[Atoms]:
    return molecules(files)


@pytest.fixture(params=[molecules, copper])
def system(files, request) -> list[Atoms]:
    return request.param(files)


class HostPhysics:
    """Tests of the residuals of a model, from outside.

    ``beyond`` is the residual (eV) that atoms may have which are farther apart than any cutoff.
    """

    beyond: ClassVar[float] = 1e-12

    @pytest.mark.parametrize("term", BOTH)
    def test_the_residual_shrinks_as_the_square_of_the_displacement(self, host, frames, term):
        moves = displacements(frames)
        norms = [
            float(residuals(host, frames, scale * moves)[term].norm()) for scale in (0.02, 0.01)
        ]
        assert norms[0] / norms[1] == pytest.approx(4.0, rel=0.03)

    @pytest.mark.parametrize("term", BOTH)
    def test_batching_changes_nothing(self, host, system, term):
        together = residuals(host, system)[term]
        moves, start = displacements(system), 0
        for number, atoms in enumerate(system):
            own = moves[:, start : start + len(atoms)]
            start += len(atoms)
            alone = residuals(host, [atoms], own)[term]
            torch.testing.assert_close(alone, together[number : number + 1], **TOLERANCE)

    @pytest.mark.parametrize("term", BOTH)
    def test_permutation_rotation_and_translation_change_nothing(self, host, frames, term):
        expected = residuals(host, frames[:1])[term]
        order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
        moves = displacements(frames[:1])
        shuffled = residuals(host, [frames[0][order.tolist()]], moves[:, order])[term]
        torch.testing.assert_close(shuffled, expected, **TOLERANCE)
        rotation = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
        turned = frames[0].copy()
        turned.positions = turned.positions @ rotation.T + 2.0
        rotated = residuals(host, [turned], moves @ torch.tensor(rotation.T))[term]
        torch.testing.assert_close(rotated, expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("term", BOTH)
    def test_a_common_translation_gives_zero_in_a_periodic_cell(self, host, files, term):
        moves = torch.tensor([[0.1, 0.2, -0.1], [-0.3, 0.0, 0.1]]).unsqueeze(1).repeat(1, 12, 1)
        residual = residuals(host, copper(files), moves)[term]
        torch.testing.assert_close(residual, torch.zeros(3), rtol=0, atol=1e-9)

    @pytest.mark.parametrize("term", BOTH)
    def test_lone_atoms_and_empty_edges(self, host, frames, term):
        zero = {"REF_energy": 0.0}
        lone = Atoms("C", positions=[[0, 0, 0]], info=zero)
        apart = Atoms("CO", positions=[[0, 0, 0], [0, 0, 30.0]], info=zero)
        alone = residuals(host, [lone, apart])[term]
        torch.testing.assert_close(alone, torch.zeros(2), rtol=0, atol=self.beyond)
        mixed = residuals(host, [lone, frames[0]])[term]
        assert float(mixed[0]) == pytest.approx(0.0, abs=1e-12)
        assert float(mixed[1].abs()) > 1e-4

    def test_kept_neighbour_lists_cost_less_than_1e_5_ev(self, host, system):
        moves = displacements(system)[:1]
        kept = host.potential(system).displaced(moves, forces=False).energy[0]
        moved, start = [], 0
        for atoms in system:
            copy = atoms.copy()
            copy.positions += moves[0, start : start + len(atoms)].numpy()
            start += len(atoms)
            moved.append(copy)
        rebuilt = host.potential(moved).rest().energy
        assert float((kept - rebuilt).detach().abs().max()) < 1e-5
