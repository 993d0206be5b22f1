"""Geometries from molecular dynamics with a tight-binding method."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta


def sample(
    name: str,
    *,
    temperature: float,
    frames: int,
    seed: int,
    stride: int = 40,
    discarded: int = 200,
    method: str = "GFN1-xTB",
) -> Iterator[Atoms]:
    """Frames of a Langevin trajectory of a molecule of ASE's: temperature in K, steps of 0.5 fs."""
    from tblite.ase import TBLite

    atoms = molecule(name)
    atoms.calc = TBLite(method=method, verbosity=0)
    generator = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=temperature, rng=generator)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=generator
    )
    dynamics.run(discarded)
    for _ in range(frames):
        dynamics.run(stride)
        frame = Atoms(atoms.numbers, np.round(atoms.positions, 6))
        frame.info["name"] = name
        yield frame
