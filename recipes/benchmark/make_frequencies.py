"""The minimum of a molecule and its harmonic vibrations by PBE/def2-SVP, to compare models with.

    python -m recipes.benchmark.make_frequencies \
        recipes/benchmark/results/data/rmd17_ethanol-test-62e73c3a.xyz \
        --out recipes/benchmark/data/ethanol_minimum.xyz

Starts from the structure of lowest energy of the file, here of one that the benchmark wrote. Says
how far forces by PySCF are from the labels of that structure, which shows that both are of one
level. Writes the minimum, with its wavenumbers in cm⁻¹.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write

from mace_weak.command.model_errors import rmse
from recipes.benchmark.dynamics import lowest
from recipes.cbs_energy_only.differences import frequencies, reduced_hessian
from recipes.cbs_energy_only.vibrations import relaxed
from recipes.quickstart.make_data import pbe, pbe_forces

GRID = 5  # PySCF's level of a very fine one


class PBE(Calculator):
    """Energies and forces of PBE/def2-SVP."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy", "forces"),
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        field = pbe(self.atoms, fitted=False, grid=GRID)
        self.results = {"energy": field.e_tot * units.Hartree, "forces": pbe_forces(field)}


def minimum_of(atoms: Atoms) -> Atoms:
    """The minimum next to the structure, with ``wavenumbers`` (cm⁻¹), ascending."""
    minimum = relaxed(atoms, PBE())
    minimum.calc = None
    blocks = pbe(minimum, fitted=False, grid=GRID).Hessian().kernel()  # (n_atoms, n_atoms, 3, 3)
    size = 3 * len(minimum)
    hessian = blocks.transpose(0, 2, 1, 3).reshape(size, size) * units.Hartree / units.Bohr**2
    found = frequencies(reduced_hessian(minimum, hessian))
    minimum.info["wavenumbers"] = np.round(found, 1)
    return minimum


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("structures", type=Path, help="extxyz file with REF_energy and REF_forces")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    frames = read(options.structures, ":")
    start = lowest(frames)
    label = start.arrays["REF_forces"]
    start.calc = PBE()
    apart = 1e3 * rmse(start.get_forces() - label)
    print(f"forces by PySCF and of the file differ by {apart:.1f} meV/Å (RMS)")
    minimum = minimum_of(start)
    write(options.out, minimum, format="extxyz")
    print(f"{options.out}: {minimum.info['wavenumbers']} cm⁻¹")


if __name__ == "__main__":
    main()
