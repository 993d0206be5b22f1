"""Tests of a model's energy surface: smoothness, closed paths, dynamics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import natural_cutoffs, neighbor_list

from mace_weak.command.output import progress
from mace_weak.structures import Prediction, bare

LENGTHS = (0.01, 0.02, 0.05, 0.1, 0.2)  # Å, root mean square displacement of an atom
LOOP = 0.05  # Å, root mean square radius of a closed path, for an atom
CORNERS = 16  # of the path: the rule converges faster than any power of them
TIME_STEP = 0.5  # fs
STRIDE = 10  # steps between two checks
BROKEN = (0.5, 1.7)  # a bond shorter or longer than this times its length at the start


# energies and forces of structures, in their order: ``Model.predictions``
Predict = Callable[[Iterable[Atoms]], Iterator[Prediction]]


def moved(atoms: Atoms, step: np.ndarray) -> Atoms:
    """A copy of the structure, moved by ``step`` (n_atoms, 3) in Å."""
    copy = bare(atoms)
    copy.positions += step
    return copy


def random_steps(count: int, n_atoms: int, generator: np.random.Generator) -> np.ndarray:
    """Normal displacements (count, n_atoms, 3) of root mean square length 1 Å for an atom."""
    return generator.normal(scale=3**-0.5, size=(count, n_atoms, 3))


def taylor_residuals(frames: Sequence[Atoms], predict: Predict, *, seed: int) -> np.ndarray:
    """r/N in meV/atom of each structure and each length of displacement, (n_frames, n_lengths).

    r = E(S+d) − [E(S) − ⟨F(S), d⟩] of Takamoto, Zaverkin and Niepert (2025). A smooth surface has
    r ∝ |d|² at short lengths. Of two potentials with one ``seed`` the difference is that of the
    difference of their surfaces.
    """
    generator = np.random.default_rng(seed)
    directions = [random_steps(1, len(atoms), generator)[0] for atoms in frames]
    lengths = np.array([0.0, *LENGTHS])
    copies = [
        moved(atoms, length * direction)
        for atoms, direction in zip(frames, directions, strict=True)
        for length in lengths
    ]
    found = list(progress(predict(copies), "Taylor residuals", total=len(copies)))
    energies = np.array([each.energy for each in found]).reshape(len(frames), -1)
    slopes = [
        np.sum(at_rest.forces * direction)
        for at_rest, direction in zip(found[:: len(lengths)], directions, strict=True)
    ]
    expected = energies[:, :1] - np.outer(slopes, lengths[1:])
    sizes = np.array([[len(atoms)] for atoms in frames])
    return 1e3 * (energies[:, 1:] - expected) / sizes


def by_length(residuals: np.ndarray) -> dict[float, float]:
    """Root mean square over the structures, for each length (Å)."""
    return dict(zip(LENGTHS, np.sqrt(np.mean(residuals**2, axis=0)).tolist(), strict=True))


def loop_work(frames: Sequence[Atoms], predict: Predict, *, seed: int) -> tuple[float, float]:
    """Work of the forces around closed paths, and its scale, both root mean squares in meV/atom.

    The path is an ellipse r + ρ(u cos θ + v sin θ) in the space of all positions, the scale the sum
    of the work's absolute values along it. Forces that are a gradient do no work around it.
    """
    generator = np.random.default_rng(seed)
    axes = [LOOP * random_steps(2, len(atoms), generator) for atoms in frames]
    angles = np.arange(CORNERS) * 2 * np.pi / CORNERS
    copies = [
        moved(atoms, u * np.cos(angle) + v * np.sin(angle))
        for atoms, (u, v) in zip(frames, axes, strict=True)
        for angle in angles
    ]
    found = iter(list(progress(predict(copies), "closed paths", total=len(copies))))
    works, scales = [], []
    for atoms, (u, v) in zip(frames, axes, strict=True):
        tangents = [v * np.cos(angle) - u * np.sin(angle) for angle in angles]
        parts = np.array([np.sum(next(found).forces * tangent) for tangent in tangents])
        parts *= 1e3 * 2 * np.pi / CORNERS / len(atoms)
        works.append(parts.sum())
        scales.append(np.abs(parts).sum())
    work, scale = (float(np.sqrt(np.mean(np.square(values)))) for values in (works, scales))
    return work, scale


@dataclass(frozen=True)
class Trajectory:
    """Total energies (eV) over times (ps), until the end or until a bond broke (``failed``)."""

    times: np.ndarray
    energies: np.ndarray
    n_atoms: int
    failed: bool

    @property
    def time(self) -> float:
        """How long the bonds held, ps."""
        return float(self.times[-1])

    @property
    def drift(self) -> float:
        """Slope of the total energy, meV/atom/ps; NaN with fewer than three."""
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
    for check in range(1, -(-steps // STRIDE) + 1):
        dynamics.run(STRIDE)
        stretch = bond_lengths(atoms, *bonds) / start
        energy = atoms.get_total_energy()
        held = np.all((stretch > BROKEN[0]) & (stretch < BROKEN[1]))  # not with NaN
        failed = not (held and np.isfinite(energy))
        if failed:
            break
        times.append(check * STRIDE * TIME_STEP / 1000)
        energies.append(energy)
    return Trajectory(np.array(times), np.array(energies), len(atoms), bool(failed))


def bond_lengths(
    atoms: Atoms, first: np.ndarray, second: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Lengths in Å of the bonds between ``first`` and ``second`` atoms (n_bonds,)."""
    vectors = atoms.positions[second] - atoms.positions[first] + shift @ atoms.cell.array
    return np.linalg.norm(vectors, axis=1)
