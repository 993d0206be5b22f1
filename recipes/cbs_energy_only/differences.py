"""Forces and harmonic frequencies from central differences of an energy that has no gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from ase import Atoms, units

from recipes.cbs_energy_only.labels import Job

FORCE_STEP = 0.005  # Å
MODE_STEP = 0.01  # Å, of the atom that moves most
TO_ENERGY = units._hbar * 1e10 / np.sqrt(units._e * units._amu)  # √(eV/Å²/u) to eV


def moved(atoms: Atoms, step: np.ndarray) -> Atoms:
    """A copy with positions moved by ``step`` (n_atoms, 3) in Å."""
    return Atoms(atoms.numbers, atoms.positions + step)


def force_jobs(name: str, atoms: Atoms) -> list[Job]:
    """Two displaced geometries for each coordinate."""
    jobs = []
    for atom, axis in np.ndindex(len(atoms), 3):
        step = np.zeros((len(atoms), 3))
        step[atom, axis] = FORCE_STEP
        jobs += [
            Job(f"{name}/{atom}{'xyz'[axis]}{sign}", moved(atoms, way * step))
            for sign, way in (("+", 1), ("-", -1))
        ]
    return jobs


def forces_of(name: str, atoms: Atoms, energies: Mapping[str, float]) -> np.ndarray:
    """F (n_atoms, 3) in eV/Å from the energies (eV) of ``force_jobs``.

    Raises:
        KeyError: if one of them is absent.
    """
    forces = np.empty((len(atoms), 3))
    for atom, axis in np.ndindex(len(atoms), 3):
        key = f"{name}/{atom}{'xyz'[axis]}"
        forces[atom, axis] = -(energies[f"{key}+"] - energies[f"{key}-"]) / (2 * FORCE_STEP)
    return forces


@dataclass(frozen=True)
class Modes:
    """Orthonormal mass-weighted vibrations of ``atoms``: ``steps`` (n_modes, n_atoms, 3) in Å/√u.

    ``lengths`` (n_modes,) in Å√u move the fastest atom by ``MODE_STEP``.
    """

    atoms: Atoms
    steps: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, atoms: Atoms, hessian: np.ndarray) -> Modes:
        """The vibrations of an approximate Hessian (3 n_atoms, 3 n_atoms) in eV/Å²."""
        weights = np.repeat(atoms.get_masses() ** -0.5, 3)
        _, vectors = np.linalg.eigh(reduced_hessian(atoms, hessian))
        modes = vibrational_space(atoms) @ vectors
        steps = (weights[:, None] * modes).T.reshape(-1, len(atoms), 3)
        return cls(atoms, steps, MODE_STEP / np.linalg.norm(steps, axis=2).max(axis=1))

    def jobs(self, name: str) -> list[Job]:
        """The geometry, two along each mode, and two along the sum of each pair of modes."""
        scaled = self.lengths[:, None, None] * self.steps
        found = [Job(name, self.atoms)]
        for key, step in self._displaced(scaled).items():
            found += [
                Job(f"{name}/{key}+", moved(self.atoms, step)),
                Job(f"{name}/{key}-", moved(self.atoms, -step)),
            ]
        return found

    def _displaced(self, scaled: np.ndarray) -> dict[str, np.ndarray]:
        single = {f"q{index}": step for index, step in enumerate(scaled)}
        pairs = {
            f"q{first}q{second}": scaled[first] + scaled[second]
            for first, second in combinations(range(len(scaled)), 2)
        }
        return single | pairs

    def gradient_and_hessian(
        self, name: str, energies: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the energy along the modes, in eV/(Å√u) and eV/(Å²u).

        Raises:
            KeyError: if the energy of one of the jobs is absent.
        """
        count = len(self.lengths)
        centre = energies[name]
        plus = np.array([energies[f"{name}/q{index}+"] for index in range(count)])
        minus = np.array([energies[f"{name}/q{index}-"] for index in range(count)])
        curvature = plus + minus - 2 * centre
        hessian = np.diag(curvature)
        for first, second in combinations(range(count), 2):
            key = f"{name}/q{first}q{second}"
            both = energies[f"{key}+"] + energies[f"{key}-"] - 2 * centre
            hessian[first, second] = (both - curvature[first] - curvature[second]) / 2
            hessian[second, first] = hessian[first, second]
        gradient = (plus - minus) / (2 * self.lengths)
        return gradient, hessian / np.outer(self.lengths, self.lengths)

    def newton_step(self, gradient: np.ndarray, hessian: np.ndarray) -> Atoms:
        """The geometry at the minimum of the quadratic expansion."""
        lengths = -np.linalg.solve(hessian, gradient)
        return moved(self.atoms, np.tensordot(lengths, self.steps, axes=1))


def frequencies(hessian: np.ndarray) -> np.ndarray:
    """Harmonic wavenumbers (cm⁻¹), ascending, of a Hessian in eV/(Å²u); imaginary as negative."""
    values = np.linalg.eigvalsh(hessian)
    return np.sign(values) * TO_ENERGY * np.sqrt(np.abs(values)) / units.invcm


def reduced_hessian(atoms: Atoms, hessian: np.ndarray) -> np.ndarray:
    """A Hessian (3 n_atoms, 3 n_atoms) in eV/Å² in the vibrational space, in eV/(Å²u)."""
    weights = np.repeat(atoms.get_masses() ** -0.5, 3)
    vibrations = vibrational_space(atoms)
    return vibrations.T @ (weights[:, None] * hessian * weights) @ vibrations


def vibrational_space(atoms: Atoms) -> np.ndarray:
    """Orthonormal mass-weighted coordinates (3 n_atoms, n_modes) free of motions of the whole."""
    roots = np.sqrt(atoms.get_masses())[:, None]
    centred = atoms.positions - atoms.get_center_of_mass()
    axes = np.eye(3)
    whole = [roots * np.broadcast_to(axis, centred.shape) for axis in axes]
    whole += [roots * np.cross(axis, centred) for axis in axes]
    columns = np.stack([motion.ravel() for motion in whole], axis=1)
    left, lengths, _ = np.linalg.svd(columns, full_matrices=True)
    rank = int(np.sum(lengths > 1e-6 * lengths[0]))  # a linear molecule has a rotation less
    return left[:, rank:]
