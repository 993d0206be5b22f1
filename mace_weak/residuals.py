"""The residuals of the two physics-informed losses.

Source: Takamoto, Zaverkin and Niepert, "Physics-Informed Weakly Supervised Learning for
Interatomic Potentials", ICML 2025 (arXiv:2408.05215).

Both residuals are one formula, the error of a first-order expansion of the energy from one place
(*here*) to another (*there*):

    r = E(there) − [E(here) − ⟨F(here), there − here⟩],   ⟨F, d⟩ = Σ_i F_i·d_i per structure.

PITC (Taylor) expands from S to S+d. PISC (spatial) expands from S+d′ to S+d, so that two ways to
the same place must agree. Gradients flow through every energy and force. An expansion of order 0
leaves the work ⟨F, d⟩ out: r = E(there) − E(here).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.potentials import Potential, Sample


def work(forces: Tensor, displacement: Tensor, structure: Tensor, n_structures: int) -> Tensor:
    """⟨F, d⟩ of each structure, in eV: (n_structures,).

    ``forces`` (n_atoms, 3) in eV/Å, ``displacement`` (n_atoms, 3) in Å, ``structure`` (n_atoms,).
    """
    per_atom = (forces * displacement).sum(dim=-1)
    total = torch.zeros(n_structures, dtype=per_atom.dtype, device=per_atom.device)
    return total.index_add(0, structure, per_atom)


def expansion_residual(
    here: Sample, there: Tensor, step: Tensor, structure: Tensor, *, order: int = 1
) -> Tensor:
    """r = E(there) − [E(here) − ⟨F(here), step⟩], in eV: (n_structures,).

    ``there`` (n_structures,) in eV is the energy at the end of ``step`` (n_atoms, 3) in Å. With
    ``order`` 0 the work is left out, and no forces are needed.

    Raises:
        ValueError: if ``here`` has no forces.
    """
    if order == 0:
        return there - here.energy
    if here.forces is None:
        raise ValueError("the expansion needs the forces at its starting point")
    return there - here.energy + work(here.forces, step, structure, there.shape[0])


def weak_residuals(
    potential: Potential, displacements: Tensor, terms: Collection[str], *, order: int = 1
) -> dict[str, Tensor]:
    """The residual (n_structures,) in eV of each of ``terms``, by expansions of ``order`` 0 or 1.

    Of the term ``forces`` it is the mean square of the forces at S+d, in (eV/Å)².

    ``displacements`` (n_replicas, n_atoms, 3) in Å are constants: d, and for ``spatial`` d′. Forces
    are asked for only where a residual needs them: they cost more than energies.
    """
    sample = potential.displaced(displacements[:1], forces=FORCES in terms)
    there = sample.energy[0]
    residuals = {}
    if FORCES in terms:
        residuals[FORCES] = mean_square_force(sample, potential.structure)
    if TAYLOR in terms:
        residuals[TAYLOR] = expansion_residual(
            potential.rest(), there, displacements[0], potential.structure, order=order
        )
    if SPATIAL in terms:
        other = potential.displaced(displacements[1:], forces=order > 0)
        here = Sample(other.energy[0], None if other.forces is None else other.forces[0])
        step = displacements[0] - displacements[1]
        residuals[SPATIAL] = expansion_residual(here, there, step, potential.structure, order=order)
    return residuals


def mean_square_force(there: Sample, structure: Tensor) -> Tensor:
    """Mean square of the components of F(S+d), in (eV/Å)²: (n_structures,).

    Of a difference to an anchor, it says how far the forces are from the anchor's. ``there`` is
    the sample of one replica.

    Raises:
        ValueError: if it has no forces.
    """
    if there.forces is None:
        raise ValueError("forces are compared, and the potential gives none")
    n_structures = there.energy.shape[-1]
    squares = work(there.forces[0], there.forces[0], structure, n_structures)
    return squares / (3 * torch.bincount(structure, minlength=n_structures))


def taylor_residual(potential: Potential, displacement: Tensor) -> Tensor:
    """PITC: r = E(S+d) − [E(S) − ⟨F(S), d⟩] in eV, (n_structures,); d (n_atoms, 3) in Å."""
    return weak_residuals(potential, displacement.unsqueeze(0), (TAYLOR,))[TAYLOR]


def spatial_residual(potential: Potential, displacement: Tensor, other: Tensor) -> Tensor:
    """PISC: r = E(S+d) − [E(S+d′) − ⟨F(S+d′), d−d′⟩] in eV, (n_structures,).

    ``displacement`` is d and ``other`` d′, both (n_atoms, 3) in Å.
    """
    return weak_residuals(potential, torch.stack([displacement, other]), (SPATIAL,))[SPATIAL]
