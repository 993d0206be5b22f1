"""Minima and harmonic vibrations of potentials that have forces."""

from __future__ import annotations

import tempfile

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from recipes.cbs_energy_only.differences import frequencies, reduced_hessian

FORCE_LIMIT = 1e-4  # eV/Å
STEPS = 1000


def relaxed(atoms: Atoms, calculator: Calculator) -> Atoms:
    """The minimum next to ``atoms``, with the calculator.

    Raises:
        SystemExit: if there is none within 1000 steps.
    """
    copy = Atoms(atoms.numbers, atoms.positions)
    copy.calc = calculator
    if not BFGS(copy, logfile=None).run(fmax=FORCE_LIMIT, steps=STEPS):
        raise SystemExit(f"no minimum of {atoms.get_chemical_formula()} after {STEPS} steps")
    return copy


def force_hessian(atoms: Atoms) -> np.ndarray:
    """(3 n_atoms, 3 n_atoms) in eV/Å², from forces at displaced positions."""
    with tempfile.TemporaryDirectory() as folder:
        vibrations = Vibrations(atoms, name=f"{folder}/vibrations")
        vibrations.run()
        return vibrations.get_vibrations().get_hessian_2d()


def harmonic_wavenumbers(atoms: Atoms, calculator: Calculator) -> np.ndarray:
    """Wavenumbers (cm⁻¹), ascending, at the minimum next to ``atoms``."""
    minimum = relaxed(atoms, calculator)
    return frequencies(reduced_hessian(minimum, force_hessian(minimum)))
