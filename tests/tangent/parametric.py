"""Analytic models with parameters, as the tangent model of the core takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from potentials import pairwise
from torch import Tensor

from mace_weak.displacements import structure_key
from mace_weak.tangent.labels import Labels

CENTRES = torch.linspace(0.8, 2.6, 7, dtype=torch.float64)  # Å
WIDTH = 0.35  # Å

PairEnergy = Callable[[Tensor, Sequence[Tensor]], Tensor]


def linear(distance: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """A pair energy linear in its parameters: Gaussians along the distance."""
    return torch.exp(-(((distance[:, None] - CENTRES) / WIDTH) ** 2)) @ parameters[0]


def curved(distance: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """A Morse well by depth, stiffness and length: not linear in its parameters."""
    depth, stiffness, length = parameters[0]
    return depth * ((1.0 - torch.exp(-stiffness * (distance - length))) ** 2 - 1.0)


@dataclass
class PairSurface:
    """Pair energies of a batch of structures; a ``Surface``."""

    model: PairModel
    places: Tensor
    structure: Tensor

    def energy(self, displacements: Tensor) -> tuple[Tensor, Tensor]:
        positions = (self.places + displacements).detach().requires_grad_(True)
        n_structures = int(self.structure.max()) + 1
        surface = pairwise(lambda distance: self.model.pair(distance, self.model.parameters))
        energies = [surface(places, self.structure, n_structures) for places in positions]
        return torch.stack(energies), positions


@dataclass
class PairModel:
    """A pair potential with parameters on some structures; a ``Model``."""

    pair: PairEnergy
    parameters: Sequence[Tensor]
    structures: Sequence[Tensor]

    @property
    def sizes(self) -> list[int]:
        return [len(places) for places in self.structures]

    @property
    def keys(self) -> list[int]:
        return [structure_key(places, [1] * len(places)) for places in self.structures]

    def surface(self, numbers: Sequence[int]) -> PairSurface:
        sizes = torch.tensor([self.sizes[number] for number in numbers])
        structure = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        places = torch.cat([self.structures[number] for number in numbers])
        return PairSurface(self, places, structure)

    def energies(self) -> Tensor:
        """Of each structure alone, eV (n_structures,)."""
        return torch.stack([self.sample(number)[0] for number in range(len(self.structures))])

    def sample(self, number: int) -> tuple[Tensor, Tensor]:
        """Energy in eV and forces (n_atoms, 3) in eV/Å of one structure."""
        surface = self.surface([number])
        energy, positions = surface.energy(
            torch.zeros(1, self.sizes[number], 3, dtype=torch.float64)
        )
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return energy[0, 0].detach(), -gradient[0]


def clusters(count: int, *, n_atoms: int = 5, seed: int = 0, spread: float = 0.15) -> list[Tensor]:
    """Distorted clusters about one geometry, positions (n_atoms, 3) in Å."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor(
        [[x, y, z] for x in (0.0, 1.1) for y in (0.0, 1.2) for z in (0.0, 1.3)], dtype=torch.float64
    )
    ideal = corners[:n_atoms]
    noise = (
        torch.randn(n_atoms, 3, dtype=torch.float64, generator=generator) for _ in range(count)
    )
    return [ideal + spread * own for own in noise]


def parameters(*values: float) -> list[Tensor]:
    return [torch.tensor(values, dtype=torch.float64, requires_grad=True)]


START = (0.5, -0.8, 0.4, 0.3, -0.2, 0.1, -0.1)
TARGET = (0.6, -0.7, 0.5, 0.2, -0.1, 0.15, -0.2)


def foundation(structures: Sequence[Tensor]) -> PairModel:
    return PairModel(linear, parameters(*START), structures)


def reference(structures: Sequence[Tensor]) -> PairModel:
    return PairModel(linear, parameters(*TARGET), structures)


def labels_of(
    model: PairModel, target: PairModel, *, shift: float = 0.0, with_forces: Sequence[int] = ()
) -> Labels:
    """Energies of the target over the model's, and forces of some structures; one kind of atom."""
    counts = np.array([[size] for size in model.sizes])
    energies = (target.energies() - model.energies()).numpy() + shift * counts[:, 0]
    forces = [
        (target.sample(number)[1] - model.sample(number)[1]).numpy()
        if number in with_forces
        else None
        for number in range(len(counts))
    ]
    return Labels(counts, energies, forces)
