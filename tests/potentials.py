"""Analytic potentials with known energies, forces and curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mace_weak.potentials import Sample

EnergyFunction = Callable[[Tensor, Tensor, int], Tensor]


@dataclass
class AnalyticPotential:
    """A potential from an energy function (positions, structure, n_structures) -> energies."""

    positions: Tensor
    structure: Tensor
    energy: EnergyFunction

    def sample(self, positions: Tensor) -> Sample:
        positions = positions.detach().requires_grad_()
        n_structures = int(self.structure.max()) + 1
        energy = self.energy(positions, self.structure, n_structures)
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        return Sample(energy, -gradient)

    def rest(self) -> Sample:
        return self.sample(self.positions)

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        samples = [self.sample(self.positions + displacement) for displacement in displacements]
        energy = torch.stack([sample.energy for sample in samples])
        if not forces:
            return Sample(energy, None)
        return Sample(energy, torch.stack([sample.forces for sample in samples]))


def harmonic(stiffness: Tensor) -> EnergyFunction:
    """E = ½ Σ_i r_iᵀ K r_i, with one K (3, 3) for every atom."""

    def energy(positions: Tensor, structure: Tensor, n_structures: int) -> Tensor:
        per_atom = 0.5 * torch.einsum("ni,ij,nj->n", positions, stiffness, positions)
        return torch.zeros(n_structures, dtype=positions.dtype).index_add(0, structure, per_atom)

    return energy


def pairwise(pair_energy: Callable[[Tensor], Tensor]) -> EnergyFunction:
    """E = Σ_{i<j} f(|r_i − r_j|) over the pairs of each structure."""

    def energy(positions: Tensor, structure: Tensor, n_structures: int) -> Tensor:
        first, second = torch.triu_indices(len(positions), len(positions), offset=1)
        together = structure[first] == structure[second]
        first, second = first[together], second[together]
        distance = (positions[first] - positions[second]).norm(dim=-1)
        zeros = torch.zeros(n_structures, dtype=positions.dtype)
        return zeros.index_add(0, structure[first], pair_energy(distance))

    return energy


def morse(distance: Tensor) -> Tensor:
    """A Morse well of depth 4 eV at 1.2 Å."""
    return 4.0 * ((1.0 - torch.exp(-2.0 * (distance - 1.2))) ** 2 - 1.0)


def softer_morse(distance: Tensor) -> Tensor:
    """A Morse well of depth 3.6 eV at 1.22 Å: another level of theory, say."""
    return 3.6 * ((1.0 - torch.exp(-1.9 * (distance - 1.22))) ** 2 - 1.0)
