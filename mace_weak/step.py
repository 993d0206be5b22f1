"""One step: from a model, its anchor and its labels on a batch to the residuals of the terms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mace_weak.displacements import (
    ADVERSARIAL,
    GAUSSIAN,
    adversarial_displacement,
    structure_displacements,
)
from mace_weak.errors import NonFiniteWeakLossError
from mace_weak.losses import SPATIAL
from mace_weak.options import REFERENCE_LABELS, WeakOptions
from mace_weak.potentials import Difference, Labelled, Potential
from mace_weak.residuals import weak_residuals


class Labels(NamedTuple):
    """Reference labels of a batch, in the form that ``Labelled`` takes."""

    energy: Tensor
    forces: Tensor
    has_energy: Tensor
    has_forces: Tensor


def step_residuals(
    own: Potential,
    *,
    anchor: Potential | None,
    labels: Labels,
    structures: Sequence[int],
    sizes: Sequence[int],
    options: WeakOptions,
    order: int,
    terms: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, Tensor]:
    """Residuals (n_structures,) in eV of each of ``terms``, by expansions of ``order``.

    ``own`` is the trained model, ``structures`` the numbers of the structures in the training set,
    ``sizes`` their numbers of atoms, and ``seeds`` what the displacements depend on beside.

    Raises:
        ValueError: if the directions are adversarial and a potential gives no forces.
    """
    n_replicas = 2 if SPATIAL in terms else 1
    adversarial = options.direction == ADVERSARIAL
    displacements = structure_displacements(
        structures,
        sizes,
        n_replicas=n_replicas,
        seeds=seeds,
        length=options.displacement,
        direction=GAUSSIAN if adversarial else options.direction,
        atom_fraction=options.atom_fraction,
    ).to(labels.forces, non_blocking=True)
    if adversarial:
        reference = Labelled(own if anchor is None else anchor, *labels)
        displacements[0] = adversarial_displacement(
            _force_error(own, reference),
            own.structure,
            n_structures=len(sizes),
            length=options.displacement,
            otherwise=displacements[0],
        )
    potential = Labelled(own, *labels) if options.labels == REFERENCE_LABELS else own
    if anchor is not None:
        potential = Difference(potential, anchor)
    return weak_residuals(potential, displacements, terms, order=order)


def require_finite(
    parts: Mapping[str, float],
    residuals: Mapping[str, Tensor],
    structures: Sequence[int],
    *,
    epoch: int,
    step: int,
    counted: str,
) -> None:
    """Check the weak ``parts`` of a step's loss.

    ``residuals`` (n_structures,) in eV are those of ``structures``; ``counted`` says how the
    structures of the training set are numbered.

    Raises:
        NonFiniteWeakLossError: if a part is infinite or not a number.
    """
    for name, value in parts.items():
        if math.isfinite(value):
            continue
        finite = torch.isfinite(residuals[name]).tolist()
        bad = [number for number, well in zip(structures, finite, strict=True) if not well]
        where = f"structure {bad[0]}" if bad else "no single structure"
        raise NonFiniteWeakLossError(
            f"the {name} term is {value} at epoch {epoch}, step {step}, from {where} of the "
            f"training set ({counted}): lower the learning rate or weak_displacement. The "
            "checkpoints are intact."
        )


def _force_error(own: Potential, reference: Potential) -> Tensor:
    """F − F_ref (n_atoms, 3) in eV/Å, a constant."""
    forces, expected = own.rest().forces, reference.rest().forces
    if forces is None or expected is None:
        raise ValueError("adversarial displacements need the forces")
    return (forces - expected).detach()
