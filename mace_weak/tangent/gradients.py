"""Gradients of energies by a model's parameters: the features of the tangent model.

To first order in the scaled change δ of the parameters θ = θ₀ + s∘δ,

    E(S; θ) = E(S; θ₀) + gᵀδ,   g(S) = s∘∂E(S; θ₀)/∂θ,

with s the root mean square of each parameter's own tensor (Jacot et al., arXiv:1806.07572; Maddox
et al., arXiv:2103.01439). A row is g of one structure, or a difference of such.
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

    def __len__(self) -> int:
        return len(self.scale)

    def row(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gradients by each parameter as one row of features (n_active,)."""
        parts = [
            own.new_zeros(own.numel()) if gradient is None else gradient.reshape(-1)
            for gradient, own in zip(gradients, self.parameters, strict=True)
        ]
        return torch.cat(parts)[self.active] * self.scale

    def nothing(self) -> Tensor:
        """No rows at all (0, n_active)."""
        return self.scale.new_empty(0, len(self))

    def directions(self, change: Tensor) -> list[Tensor]:
        """s∘δ in the shapes of the parameters, from δ (n_active,)."""
        whole = change.new_zeros(len(self.active))
        whole[self.active] = change * self.scale
        parts = torch.split(whole, [own.numel() for own in self.parameters])
        return [part.view_as(own) for part, own in zip(parts, self.parameters, strict=True)]


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
    found = [torch.zeros_like(own, dtype=torch.bool) for own in parameters]
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
    scale = scales_of(parameters)
    active = torch.cat([mask.reshape(-1) for mask in found]) & (scale > 0)
    if not active.any():
        raise WeakLossError("no energy depends on a trainable parameter: unfreeze the model")
    return Coordinates(parameters, active, scale[active])


def scales_of(parameters: Sequence[Tensor]) -> Tensor:
    """s of all parameters, one behind the other (n_parameters,)."""
    return torch.cat(
        [own.detach().square().mean().sqrt().expand(own.numel()) for own in parameters]
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
