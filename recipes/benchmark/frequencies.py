"""Harmonic vibrations of a model of MACE against those of the reference method.

    python -m recipes.benchmark.frequencies MODEL recipes/benchmark/data/ethanol_minimum.xyz

Both at their own minimum. Prints a line of JSON with the mean and the largest deviation, in cm⁻¹.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read

from recipes.benchmark.dynamics import add_model_arguments, calculator_of
from recipes.cbs_energy_only.vibrations import harmonic_wavenumbers


def deviations(minimum: Atoms, calculator: Calculator) -> dict[str, float]:
    """Of the vibrations of a calculator from the ``wavenumbers`` of a minimum, in cm⁻¹."""
    found = harmonic_wavenumbers(minimum, calculator)
    apart = np.abs(found - minimum.info["wavenumbers"])
    measured = {"wavenumber_mae": apart.mean(), "wavenumber_max": apart.max()}
    return {name: round(float(value), 1) for name, value in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument("minimum", help="extxyz file of the molecule, with wavenumbers")
    options = parser.parse_args()
    calculator = calculator_of(options, dtype="float64")
    print(json.dumps(deviations(read(options.minimum), calculator)))


if __name__ == "__main__":
    main()
