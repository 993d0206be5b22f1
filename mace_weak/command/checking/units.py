"""Units that labels may be in by mistake, told by their size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree, kcal, kJ, mol

ENERGY_UNITS = {
    "eV": 1.0,
    "Hartree": Hartree,
    "Rydberg": Hartree / 2,
    "kcal/mol": kcal / mol,
    "kJ/mol": kJ / mol,
    "meV": 1e-3,
}
FORCE_UNITS = {
    "eV/Å": 1.0,
    "Hartree/Bohr": Hartree / Bohr,
    "Hartree/Å or Rydberg/Bohr": Hartree * (0.5 / Bohr) ** 0.5,  # within 3 %
    "kcal/mol/Å": kcal / mol,
    "kJ/mol/Å": kJ / mol,
    "meV/Å": 1e-3,
    "eV/Bohr": 1.0 / Bohr,
}
CERTAIN = 0.2  # of the logarithm: no two units are so close


def unit_of(ratio: float, units: Mapping[str, float]) -> str | None:
    """The unit in which a number is ``ratio`` of what it is in eV (eV/Å), if one fits."""
    if not ratio > 0:
        return None
    away = {name: abs(np.log(ratio * size)) for name, size in units.items()}
    name = min(away, key=lambda candidate: away[candidate])
    return name if away[name] < CERTAIN else None


def energy_readings(sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Factors (n_structures,) that turn energies into eV, if they are what the name says.

    ``sizes`` (n_structures,) are the numbers of atoms.
    """
    whole = {name: np.full(len(sizes), size) for name, size in ENERGY_UNITS.items()}
    return whole | {f"{name} for each atom": size * sizes for name, size in ENERGY_UNITS.items()}


def all_electron_energy(symbol: str) -> float:
    """Total energy of an atom with all of its electrons, eV, within some per cent.

    The Thomas–Fermi energy with Scott's and Schwinger's corrections (B.-G. Englert and J.
    Schwinger, Phys. Rev. A 32, 26 (1985)).
    """
    z = float(atomic_numbers[symbol])
    return Hartree * (-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3))
