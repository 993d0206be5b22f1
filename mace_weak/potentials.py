"""What the losses ask of a potential, and the two ways to compose potentials.

A potential here is an energy surface seen from one fixed batch of structures: their atoms are
numbered through the batch, and ``structure`` says which structure each atom belongs to.
Leading dimensions (``...``) number replicas of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Sample(NamedTuple):
    """Energies (..., n_structures) in eV and forces (..., n_atoms, 3) in eV/Å, if computed."""

    energy: Tensor
    forces: Tensor | None


class Potential(Protocol):
    """Energies and forces of a fixed batch of structures S, at rest and displaced."""

    @property
    def structure(self) -> Tensor:
        """Index of the structure that each atom belongs to (n_atoms,), int64."""

    def rest(self) -> Sample:
        """E(S) (n_structures,) and F(S) (n_atoms, 3)."""

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        """E(S+d), and F(S+d) if ``forces``, for displacements (n_replicas, n_atoms, 3) in Å."""


@dataclass(frozen=True)
class Difference:
    """The potential ΔE = E − E₀, ΔF = F − F₀: ``potential`` minus a frozen ``anchor``.

    A loss on it is the anchored form of that loss: the anchor supplies the curvature, and only
    the correction must be locally linear.
    """

    potential: Potential
    anchor: Potential

    @property
    def structure(self) -> Tensor:
        return self.potential.structure

    def rest(self) -> Sample:
        return _subtract(self.potential.rest(), self.anchor.rest())

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        return _subtract(
            self.potential.displaced(displacements, forces=forces),
            self.anchor.displaced(displacements, forces=forces),
        )


class Reference(NamedTuple):
    """Reference labels of a batch: energies (n_structures,) in eV, forces (n_atoms, 3) in eV/Å.

    ``has_energy`` and ``has_forces`` (n_structures,), bool, say for which structures they exist.
    """

    energy: Tensor
    forces: Tensor
    has_energy: Tensor
    has_forces: Tensor


@dataclass(frozen=True)
class Referenced:
    """``potential`` with reference labels in place of E(S) and F(S), where they exist."""

    potential: Potential
    reference: Reference

    @property
    def structure(self) -> Tensor:
        return self.potential.structure

    def rest(self) -> Sample:
        model = self.potential.rest()
        known = self.reference
        energy = torch.where(known.has_energy, known.energy, model.energy)
        if model.forces is None:
            return Sample(energy, None)
        per_atom = known.has_forces[self.structure].unsqueeze(-1)
        return Sample(energy, torch.where(per_atom, known.forces, model.forces))

    def displaced(self, displacements: Tensor, *, forces: bool) -> Sample:
        return self.potential.displaced(displacements, forces=forces)


def _subtract(sample: Sample, other: Sample) -> Sample:
    if sample.forces is None or other.forces is None:
        return Sample(sample.energy - other.energy, None)
    return Sample(sample.energy - other.energy, sample.forces - other.forces)
