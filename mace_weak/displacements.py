"""Displacements of atoms: random ones, a pure function of the seed, and adversarial ones.

A displacement is drawn for one structure from a generator of its own, seeded by whatever numbers
the caller gives (a run's seed, the epoch, the structure's index). So it does not depend on how
structures are batched or spread over processes, a restart continues it exactly, and the host's
random stream is left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mace_weak.errors import WeakLossError

GAUSSIAN = "gaussian"
UNIFORM = "uniform"
ADVERSARIAL = "adversarial"
DIRECTIONS = (GAUSSIAN, UNIFORM, ADVERSARIAL)


def seeded_generator(*numbers: int) -> torch.Generator:
    """A CPU generator whose seed is a hash of ``numbers``."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def structure_key(positions: Tensor, numbers: Sequence[int]) -> int:
    """A number of a structure's own, from its positions (n_atoms, 3) in Å and atomic numbers.

    It seeds what is drawn for the structure, at any place in a file.
    """
    rounded = torch.round(positions.detach().cpu().double() * 1e5).long().tolist()
    digest = hashlib.blake2b(repr((rounded, list(numbers))).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def random_displacements(
    n_replicas: int,
    n_atoms: int,
    *,
    length: float,
    direction: str = GAUSSIAN,
    atom_fraction: float = 1.0,
    generator: torch.Generator,
) -> Tensor:
    """Random displacements (n_replicas, n_atoms, 3) in Å, float64, on the CPU.

    ``length`` is the root mean square length in Å of the displacement of a moved atom. The
    components are independent: normal (``gaussian``) or uniform about zero (``uniform``). Each
    atom moves with probability ``atom_fraction``.

    Raises:
        WeakLossError: if the direction is neither ``gaussian`` nor ``uniform``.
    """
    shape = (n_replicas, n_atoms, 3)
    if direction == GAUSSIAN:
        unit = torch.randn(shape, dtype=torch.float64, generator=generator) / 3**0.5
    elif direction == UNIFORM:
        unit = 2.0 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1.0
    else:
        raise WeakLossError(f"random displacements are {GAUSSIAN} or {UNIFORM}, not '{direction}'")
    if atom_fraction < 1.0:
        draw = torch.rand((n_replicas, n_atoms, 1), dtype=torch.float64, generator=generator)
        unit = unit * (draw < atom_fraction)
    return length * unit


def structure_displacements(
    structures: Sequence[int],
    sizes: Sequence[int],
    *,
    n_replicas: int,
    seeds: Sequence[int],
    length: float,
    direction: str,
    atom_fraction: float,
) -> Tensor:
    """Random displacements of several structures: (n_replicas, sum of ``sizes``, 3) in Å.

    Each structure draws from a generator seeded by ``seeds`` and its number in ``structures``.
    """
    return torch.cat(
        [
            random_displacements(
                n_replicas,
                size,
                length=length,
                direction=direction,
                atom_fraction=atom_fraction,
                generator=seeded_generator(*seeds, structure),
            )
            for structure, size in zip(structures, sizes, strict=True)
        ],
        dim=1,
    )


def drawn(structure: int, *, fraction: float, seeds: Sequence[int]) -> bool:
    """Whether a structure is among the ``fraction`` drawn at random."""
    if fraction >= 1.0:
        return True
    generator = seeded_generator(*seeds, structure, -1)
    return bool(torch.rand((), dtype=torch.float64, generator=generator) < fraction)


def adversarial_displacement(
    force_error: Tensor, structure: Tensor, *, n_structures: int, length: float, otherwise: Tensor
) -> Tensor:
    """Displacement (n_atoms, 3) in Å along −(F − F_ref), where the energy error grows fastest.

    ``force_error`` is F − F_ref (n_atoms, 3) in eV/Å. In each structure the displacement has the
    root mean square length ``length`` (Å) per atom. Structures without a force error (zero) take
    the displacement ``otherwise`` (n_atoms, 3).
    """
    squares = force_error.square().sum(dim=-1)
    zeros = torch.zeros(n_structures, dtype=squares.dtype, device=squares.device)
    total = zeros.index_add(0, structure, squares)
    atoms = zeros.index_add(0, structure, torch.ones_like(squares))
    known = total > 0
    scale = length * torch.sqrt(atoms / torch.where(known, total, torch.ones_like(total)))
    along = -force_error * scale[structure].unsqueeze(-1)
    return torch.where(known[structure].unsqueeze(-1), along, otherwise)
