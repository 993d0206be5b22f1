"""The network made linear around the foundation: features, and the tangent model's potential.

To first order in the scaled change δ of the parameters θ = θ₀ + s∘δ,

    E(S; θ) = E(S; θ₀) + gᵀδ,   g(S) = s∘∂E(S; θ₀)/∂θ,

with s the root mean square of each parameter's own tensor (Jacot et al., arXiv:1806.07572; Maddox
et al., arXiv:2103.01439). A row is g of one structure, or a difference of such. A chosen δ
makes a potential of the core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.potentials import Sample

PER_PASS = 16  # structures whose influence is looked for at once


class Surface(Protocol):
    """A model's energies of a fixed batch of structures, by its parameters and the positions."""

    @property
    def structure(self) -> Tensor:
        """Index of the structure that each atom belongs to (n_atoms,), int64."""

    def energy(self, displacements: Tensor) -> tuple[Tensor, Tensor]:
        """E(S+d; θ₀) (n_replicas, n_structures) in eV, and the positions that it depends on.

        Both carry gradients, the energies by the parameters too. ``displacements`` are
        (n_replicas, n_atoms, 3) in Å, and so are the positions.
        """


class Model(Protocol):
    """A host's model on the structures of a data set, in float64."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The trainable parameters θ₀; leaves that require gradients."""

    @property
    def sizes(self) -> Sequence[int]:
        """Numbers of atoms of the structures."""

    @property
    def keys(self) -> Sequence[int]:
        """What displacements of the structures are seeded by: the same in any order of them."""

    def surface(self, numbers: Sequence[int]) -> Surface:
        """The energies of the structures with these numbers."""


@dataclass(frozen=True)
class Coordinates:
    """The parameters that the energies of a data set depend on, and their scales.

    ``active`` (n_parameters,) says which of all parameters, one behind the other, do; ``scale``
    (n_active,) are the s of these, in the unit of each parameter.
    """

    parameters: Sequence[Tensor]
    active: Tensor
    scale: Tensor

    @classmethod
    def of(cls, parameters: Sequence[Tensor], active: Tensor | None = None) -> Coordinates:
        """The ``active`` parameters; all of them for structures that are not known yet."""
        scale = scales_of(parameters)
        if active is None:
            active = torch.ones_like(scale, dtype=torch.bool)
        return cls(parameters, active, scale[active])

    def __len__(self) -> int:
        return len(self.scale)

    def row(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gradients by each parameter as one row of features (n_active,)."""
        parts = [
            parameter.new_zeros(parameter.numel()) if gradient is None else gradient.reshape(-1)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        ]
        return torch.cat(parts)[self.active] * self.scale

    def nothing(self) -> Tensor:
        """No rows at all (0, n_active)."""
        return self.scale.new_empty(0, len(self))

    def directions(self, change: Tensor) -> list[Tensor]:
        """s∘δ in the shapes of the parameters, from δ (n_active,)."""
        whole = change.new_zeros(len(self.active))
        whole[self.active] = change * self.scale
        parts = torch.split(whole, [parameter.numel() for parameter in self.parameters])
        return [
            part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)
        ]


def in_float64(graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A host's graph in the precision of the tangent model."""
    return {
        key: value.double() if value.is_floating_point() else value for key, value in graph.items()
    }


def coordinates_of(model: Model) -> Coordinates:
    """The parameters that the energies of the model's structures depend on.

    Those of absent elements are left out: a random combination of all energies has no gradient by
    them.

    Raises:
        WeakLossError: if no energy depends on any.
    """
    parameters = model.parameters
    found = [torch.zeros_like(parameter, dtype=torch.bool) for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(model.sizes), PER_PASS):
        numbers = range(start, min(start + PER_PASS, len(model.sizes)))
        surface = model.surface(numbers)
        energy, _ = surface.energy(_still(surface, parameters[0]))
        mix = torch.rand(energy.shape, dtype=torch.float64, generator=generator) + 0.5
        gradients = torch.autograd.grad(
            (energy * mix.to(energy)).sum(), parameters, allow_unused=True
        )
        for mask, gradient in zip(found, gradients, strict=True):
            if gradient is not None:
                mask |= gradient != 0
    active = torch.cat([mask.reshape(-1) for mask in found]) & (scales_of(parameters) > 0)
    if not active.any():
        raise WeakLossError("no energy depends on a trainable parameter: unfreeze the model")
    return Coordinates.of(parameters, active)


def scales_of(parameters: Sequence[Tensor]) -> Tensor:
    """s of all parameters, one behind the other (n_parameters,)."""
    return torch.cat(
        [
            parameter.detach().square().mean().sqrt().expand(parameter.numel())
            for parameter in parameters
        ]
    )


def _still(surface: Surface, like: Tensor) -> Tensor:
    """One displacement by nothing, on the device of ``like``."""
    return torch.zeros((1, len(surface.structure), 3), dtype=torch.float64, device=like.device)


class Features:
    """The rows g of one structure at rest and displaced, as a ``Potential`` of many components.

    Whatever is linear in energies, as the residuals of order 0 are, is a row itself so. A place is
    computed once, however many residuals ask for it.
    """

    def __init__(self, surface: Surface, coordinates: Coordinates) -> None:
        self.surface = surface
        self.coordinates = coordinates
        self._known: list[tuple[Tensor, Tensor]] = []

    @property
    def structure(self) -> Tensor:
        return self.surface.structure

    def rest(self) -> Sample:
        """g(S) (1, n_active)."""
        still = _still(self.surface, self.coordinates.scale)
        return Sample(self.displaced(still, forces=False).energy[0], None)

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        """g(S+d) (n_replicas, 1, n_active); they have no forces.

        Raises:
            ValueError: if forces are asked for.
        """
        if forces:
            raise ValueError("rows of features have no forces: ask for an expansion of order 0")
        rows = [self._row(one) for one in displacements]
        return Sample(torch.stack(rows).unsqueeze(1), None)

    def _row(self, displacement: Tensor) -> Tensor:
        for place, row in self._known:
            if torch.equal(place, displacement):
                return row
        energy, _ = self.surface.energy(displacement.unsqueeze(0))
        gradients = torch.autograd.grad(
            energy.sum(), self.coordinates.parameters, allow_unused=True
        )
        row = self.coordinates.row(gradients)
        self._known.append((displacement.clone(), row))
        return row


def force_rows(surface: Surface, coordinates: Coordinates) -> Iterator[Tensor]:
    """−∂g/∂r of one structure, a row (n_active,) for each of the 3 n_atoms components of forces."""
    energy, positions = surface.energy(_still(surface, coordinates.scale))
    (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
    for component in gradient.reshape(-1):
        by_parameters = torch.autograd.grad(
            -component, coordinates.parameters, retain_graph=True, allow_unused=True
        )
        yield coordinates.row(by_parameters)


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
