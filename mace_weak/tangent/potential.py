"""The tangent model as a potential of the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mace_weak.potentials import Sample
from mace_weak.tangent.gradients import Surface


@dataclass(frozen=True)
class TangentPotential:
    """E_t = E(θ₀) + gᵀδ on a batch of structures, frozen; a ``Potential``.

    ``directions`` are s∘δ in the shapes of ``parameters``. Energies, in eV, are without the shifts
    of the atoms' energies; forces in eV/Å, both float64.
    """

    surface: Surface
    parameters: Sequence[Tensor]
    directions: Sequence[Tensor]

    @property
    def structure(self) -> Tensor:
        return self.surface.structure

    def rest(self) -> Sample:
        still = self.directions[0].new_zeros((1, len(self.structure), 3))
        sample = self.displaced(still, forces=True)
        return Sample(sample.energy[0], None if sample.forces is None else sample.forces[0])

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        """The correction is the derivative of Σ E(θ₀) along the directions, of one structure each.

        Energies of other structures do not depend on a structure's positions: so the sum of the
        corrections has the forces of all.
        """
        with torch.enable_grad():
            energy, positions = self.surface.energy(displacements)
            energies, total = _along(energy, self.parameters, self.directions)
            force = None
            if forces:
                (gradient,) = torch.autograd.grad(energy.sum() + total, positions)
                force = -gradient.view_as(displacements)
        return Sample(energies.detach(), force)


def _along(
    energy: Tensor, parameters: Sequence[Tensor], directions: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """E + the derivative of each energy along the directions, and the sum of these derivatives.

    The derivative of vᵀE by the parameters, along the directions, is linear in v: its gradient by
    v has the derivatives of all structures at once.
    """
    mix = torch.ones_like(energy, requires_grad=True)
    gradients = torch.autograd.grad(
        (energy * mix).sum(), parameters, create_graph=True, allow_unused=True
    )
    total = torch.stack(
        [
            (gradient * direction).sum()
            for gradient, direction in zip(gradients, directions, strict=True)
            if gradient is not None
        ]
    ).sum()
    (each,) = torch.autograd.grad(total, mix, retain_graph=True)
    return energy + each, total


@dataclass(frozen=True)
class FrozenTangent:
    """The tangent model as an anchor, in the precision ``dtype`` of a training; a ``Potential``.

    ``at_rest`` are its labels of the structures themselves.
    """

    potential: TangentPotential
    at_rest: Sample
    dtype: torch.dtype

    @property
    def structure(self) -> Tensor:
        return self.potential.structure

    def rest(self) -> Sample:
        return self.at_rest

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        sample = self.potential.displaced(displacements.double(), forces=forces)
        return Sample(
            sample.energy.to(self.dtype),
            None if sample.forces is None else sample.forces.to(self.dtype),
        )
