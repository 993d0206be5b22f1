"""How heavy the anchored Taylor term must be to act on some structures."""

from __future__ import annotations

import math

import numpy as np

from mace_weak.command.checking.foundation_checks import Comparison
from mace_weak.command.frames import evenly
from mace_weak.command.judging.evaluation import rmse
from mace_weak.command.judging.surface import random_steps, taylor_residual
from mace_weak.command.models import Model
from mace_weak.losses import TAYLOR
from mace_weak.options import ANCHORED_WEIGHTS

PROBED = 20  # structures
# ethanol, for which the default weight was chosen (recipes/benchmark)
REFERENCE_ATOMS = 9
REFERENCE_RESIDUAL = 33.0  # meV/atom at 0.05 Å
HEAVIER = 3.0  # times the default, for a weight to be proposed


def own_residual(model: Model, comparison: Comparison, *, length: float) -> float:
    """Root mean square of the foundation's own r/N, meV/atom, at random steps of ``length`` Å."""
    generator = np.random.default_rng(0)
    pairs = list(zip(comparison.structures, comparison.predictions, strict=True))
    residuals = []
    for structure, there in evenly(pairs, PROBED):
        n_atoms = len(structure.atoms)
        step = length * random_steps(1, n_atoms, generator)[0]
        residual = taylor_residual(
            structure.atoms, model.calculator, step, there.energy, there.forces
        )
        residuals.append(1e3 * residual / n_atoms)
    return rmse(np.array(residuals))


def heavier_weight(comparison: Comparison, residual: float) -> float | None:
    """The weight at which the term acts as the default does on ethanol, if it is much heavier.

    A wrong curvature leaves residuals in proportion to the foundation's own, and of random signs,
    so that (r/N)² falls with the square of the stiffness and with the number of atoms N.
    """
    n_atoms = float(np.mean([len(structure.atoms) for structure in comparison.structures]))
    factor = n_atoms / REFERENCE_ATOMS * (REFERENCE_RESIDUAL / max(residual, 1e-3)) ** 2
    if factor < HEAVIER:
        return None
    weight = ANCHORED_WEIGHTS[TAYLOR] * factor
    return round(weight, -math.floor(math.log10(weight)))
