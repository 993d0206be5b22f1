"""Whether a foundation model fits the data: elements, cutoff, level of theory, units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mace_weak.command.atomic_energies import CompositionFit, counts_of, fit_composition
from mace_weak.command.checking.survey import Labelled, Survey
from mace_weak.command.checking.units import ENERGY_UNITS, FORCE_UNITS, unit_of
from mace_weak.command.frames import evenly
from mace_weak.command.models import Model, Prediction, predict
from mace_weak.command.output import Finding
from mace_weak.command.progress import progress
from mace_weak.likeness import FEWEST, VARIED, Likeness, liken, proportion

PREDICTED = 200  # structures that the foundation model is run on
SAME_ZERO = 0.01  # eV, of the energies of the atoms
STILL = 0.1  # eV/Å, above which the foundation model sees forces
UNRELATED = 0.3  # correlation below which they do not
RELATED = 0.7  # correlation from which the forces of two levels belong together


@dataclass(frozen=True)
class Comparison:
    """A foundation model's predictions on some labelled structures.

    The composition explains the labels' energies by ``own``, the ``predicted`` ones, and their
    difference, labels minus predictions, by ``shift``, and the ``likeness`` is of the rest.
    """

    structures: Sequence[Labelled]
    predictions: Sequence[Prediction]
    shift: CompositionFit
    own: CompositionFit
    predicted: CompositionFit
    likeness: Likeness

    @property
    def telling(self) -> bool:
        """Whether enough energies that differ are predicted to compare their units."""
        return len(self.structures) >= FEWEST and self.predicted.rmse >= 1e3 * VARIED

    @property
    def shifted(self) -> bool:
        """Whether the labels have another zero of energy than the model."""
        return max(map(abs, self.shift.energies.values())) > SAME_ZERO

    def forces(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference and predicted force components (n,), eV/Å."""
        pairs = [
            (structure.labels["forces"].ravel(), prediction.forces.ravel())
            for structure, prediction in zip(self.structures, self.predictions, strict=True)
            if "forces" in structure.labels
        ]
        if not pairs:
            return np.empty(0), np.empty(0)
        reference, predicted = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return reference, predicted


def compare(model: Model, survey: Survey) -> Comparison | None:
    """Run the model on some of the structures with energies; None where there are none."""
    known = [
        structure
        for structure in survey.structures
        if "energy" in structure.labels and structure.bound
    ]
    if not known:
        return None
    structures = evenly(known, PREDICTED)
    frames = [structure.atoms for structure in structures]
    predictions = list(progress(predict(model, frames), "foundation", total=len(frames)))
    labels = np.array([float(structure.labels["energy"]) for structure in structures])
    energies = np.array([prediction.energy for prediction in predictions])
    elements = [symbol for symbol in model.elements if symbol in survey.elements]
    return Comparison(
        structures,
        predictions,
        shift=fit_composition(frames, labels - energies, elements),
        own=fit_composition(frames, labels, elements),
        predicted=fit_composition(frames, energies, elements),
        likeness=liken(counts_of(frames, elements), labels, energies),
    )


def misfits(model: Model, surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Elements that the model lacks, and atoms alone within its cutoff."""
    for survey in surveys:
        missing = survey.elements - set(model.elements)
        if missing:
            yield Finding(
                f"the foundation model lacks {', '.join(sorted(missing))} of {survey.path} (it has "
                f"{', '.join(model.elements)})",
                "choose a foundation model trained on all elements",
                wrong=True,
            )
        alone = int(np.sum(np.array(survey.loneliest) > model.cutoff))
        if alone:
            yield Finding(
                f"{survey.path}: in {alone} structures an atom has no neighbour within the "
                f"foundation's cutoff, {model.cutoff:g} Å",
                "remove them, or label the parts alone: the model sees no bond there",
            )


def unlike_forces(comparison: Comparison) -> Iterator[Finding]:
    """Forces of another sign or unit than the foundation model's, or unlike them."""
    reference, predicted = comparison.forces()
    ratio, related = proportion(reference, predicted)
    if len(reference) and not reference.any() and np.std(predicted) > STILL:
        yield Finding(
            f"the forces are zero, where the foundation model has {np.std(predicted):.2g} eV/Å",
            "leave them away if they were not calculated",
            wrong=True,
        )
    if related < -RELATED:
        yield Finding(
            f"the forces point against the foundation model's (correlation {related:.2f})",
            "turn their sign: forces are −∂E/∂r, not the gradient",
            wrong=True,
        )
    elif abs(related) < UNRELATED:
        yield Finding(
            "the forces have nothing to do with the foundation model's (correlation "
            f"{related:.2f})",
            "are they of these structures, and of their atoms in this order?",
        )
    unit = unit_of(ratio, FORCE_UNITS) if related > RELATED else None
    if unit not in (None, "eV/Å"):
        yield Finding(
            f"the forces are {ratio:.3g} times the foundation model's: they look like {unit}",
            "convert them to eV/Å",
            wrong=True,
        )


def unlike_energies(comparison: Comparison) -> Iterator[Finding]:
    """Energies that differ by another unit than the foundation model's, or without regard to it."""
    if not comparison.telling:
        return
    ratio, related = proportion(comparison.own.residuals, comparison.predicted.residuals)
    unit = unit_of(ratio, ENERGY_UNITS) if related > RELATED else None
    if unit not in (None, "eV"):
        yield Finding(
            f"energies differ between structures by {ratio:.3g} times the foundation model's: they "
            f"look like {unit}",
            "convert them to eV",
            wrong=True,
        )
    elif comparison.likeness.another_surface:
        yield Finding(
            f"the foundation model leaves {comparison.likeness}: its surface is another one",
            "an anchor would hold on to it: train without one, or soften the model first by a "
            "structure with forces (mace-weak soften), or choose another foundation model",
        )
