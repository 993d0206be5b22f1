"""How a potential holds in molecular dynamics at constant energy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import natural_cutoffs, neighbor_list

from mace_weak.command.frames import bare

TIME_STEP = 0.5  # fs
STRIDE = 10  # steps between two looks
BROKEN = (0.5, 1.7)  # a bond shorter or longer than this times its length at the start


@dataclass(frozen=True)
class Trajectory:
    """Total energies (eV) over times (ps), until the end or until a bond broke (``failed``)."""

    times: np.ndarray
    energies: np.ndarray
    n_atoms: int
    failed: bool

    @property
    def time(self) -> float:
        """How long it held, ps."""
        return float(self.times[-1])

    @property
    def drift(self) -> float:
        """Slope of the total energy, meV/atom/ps; NaN of fewer than three looks."""
        if len(self.times) < 3:
            return float("nan")
        return float(1e3 * np.polyfit(self.times, self.energies, 1)[0] / self.n_atoms)


def constant_energy(
    atoms: Atoms, calculator: Calculator, *, temperature: float, steps: int, seed: int
) -> Trajectory:
    """A trajectory at constant energy from ``atoms``, near a minimum, with velocities of 2T (K).

    Half of that kinetic energy goes into the potential, so that the temperature is about T.
    """
    atoms = bare(atoms)
    atoms.calc = calculator
    thermalize_momenta(atoms, temperature_K=2 * temperature, rng=np.random.default_rng(seed))
    Stationary(atoms)
    bonds = neighbor_list("ijS", atoms, natural_cutoffs(atoms, mult=1.2))
    start = bond_lengths(atoms, *bonds)
    dynamics = VelocityVerlet(atoms, TIME_STEP * units.fs)
    times, energies, failed = [0.0], [atoms.get_total_energy()], False
    for look in range(1, -(-steps // STRIDE) + 1):
        dynamics.run(STRIDE)
        stretch = bond_lengths(atoms, *bonds) / start
        energy = atoms.get_total_energy()
        held = np.all((stretch > BROKEN[0]) & (stretch < BROKEN[1]))  # not with NaN
        failed = not (held and np.isfinite(energy))
        if failed:
            break
        times.append(look * STRIDE * TIME_STEP / 1000)
        energies.append(energy)
    return Trajectory(np.array(times), np.array(energies), len(atoms), bool(failed))


def bond_lengths(
    atoms: Atoms, first: np.ndarray, second: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Lengths in Å of the bonds between ``first`` and ``second`` atoms (n_bonds,)."""
    vectors = atoms.positions[second] - atoms.positions[first] + shift @ atoms.cell.array
    return np.linalg.norm(vectors, axis=1)
