"""What both hosts must find: the ratio of the weak to the supervised part, from the core alone.

Each host's test gives these structures to its own loss, with a Morse potential as its model, and
compares with ``expected_ratios``. So the hosts agree, though no environment has both.
"""

from __future__ import annotations

import torch
from ase import Atoms
from ase.io import read
from datafiles import QUICKSTART
from potentials import AnalyticPotential, morse, pairwise, softer_morse

from mace_weak.defaults import Resolved
from mace_weak.displacements import structure_displacements
from mace_weak.options import WeakOptions
from mace_weak.residuals import weak_residuals
from mace_weak.schedule import Place, WeakSchedule

WEIGHT = 7.0
LEARNING_RATE = 0.004
SETTINGS = {"weak_taylor_weight": WEIGHT, "weak_spatial_weight": 3.0, "weak_displacement": 0.04}
ENERGY = pairwise(morse)


def labelled_frames() -> list[Atoms]:
    """Four structures of two sizes, labelled by a softer Morse potential."""
    frames = [
        *read(QUICKSTART / "data" / "ethanol_pbe_train.xyz", ":2"),
        *read(QUICKSTART / "data" / "molecules_gfn1.xyz", ":2"),
    ]
    assert len({len(atoms) for atoms in frames}) == 2
    bare = [Atoms(atoms.numbers, atoms.positions) for atoms in frames]
    potential = AnalyticPotential(*joined(bare), pairwise(softer_morse))
    for atoms, energy in zip(bare, potential.rest().energy.tolist(), strict=True):
        atoms.info["REF_energy"] = energy
    return bare


def joined(frames: list[Atoms]) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and structure of all atoms."""
    positions = torch.cat([torch.tensor(atoms.positions) for atoms in frames])
    sizes = torch.tensor([len(atoms) for atoms in frames])
    return positions, torch.repeat_interleave(torch.arange(len(frames)), sizes)


def schedule(order: int = 1, name: str = "weak_piwsl") -> WeakSchedule:
    options = WeakOptions.from_mapping(SETTINGS)
    weights = {term: float(weight) for term, weight in options.weights.items()}
    return WeakSchedule(
        name=name,
        options=options,
        resolved=Resolved(order=order, weights=weights, schedule=options.schedule),
        seed=5,
        n_epochs=10,
        steps_per_epoch=1,
        eligible=[True] * 4,
    )


def expected_ratios(frames: list[Atoms], order: int = 1) -> dict[str, float]:
    """Σ (r/N)² w s over Σ (ΔE/N)² of each term, in the first step of the third epoch.

    ``order`` is that of the expansion; at 0 the term is of r/√N.
    """
    potential = AnalyticPotential(*joined(frames), ENERGY)
    sizes = torch.tensor([len(atoms) for atoms in frames])
    run, epoch = schedule(), 2
    displacements = structure_displacements(
        range(len(frames)),
        sizes.tolist(),
        n_replicas=2,
        seeds=run.seeds(epoch),
        length=run.options.displacement,
        direction=run.options.direction,
        atom_fraction=1.0,
    )
    residuals = weak_residuals(potential, displacements, ("taylor", "spatial"), order=order)
    labels = torch.tensor([atoms.info["REF_energy"] for atoms in frames], dtype=torch.float64)
    error = ((potential.rest().energy - labels) / sizes).square().mean()
    per_size = sizes if order else sizes.double().sqrt()
    return {
        term: (weight * (residuals[term] / per_size).square().mean() / error).item()
        for term, weight in run.weights(Place(epoch, 0, LEARNING_RATE)).items()
    }
