"""Whether a foundation model fits the data: elements, cutoff, level of theory, units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.units import Bohr

from mace_weak.agreement import (
    FEWEST,
    VARIED,
    EnergyAgreement,
    energy_agreement,
    fit_atoms,
    proportion,
)
from mace_weak.command.atomic_energies import CompositionFit, counts_of, fit_composition
from mace_weak.command.checking.survey import Labelled, Survey
from mace_weak.command.checking.units import FORCE_UNITS, energy_readings, unit_of
from mace_weak.command.frames import evenly
from mace_weak.command.models import Model, Prediction, predict
from mace_weak.command.output import Finding
from mace_weak.command.progress import progress

PREDICTED = 200  # structures that the foundation model is run on
SAME_ZERO = 0.01  # eV, of the energies of the atoms
STILL = 0.1  # eV/Å, above which the foundation model sees forces
UNRELATED = 0.3  # correlation below which they do not
SAME = 0.02  # difference of correlations that says nothing
RELATED = 0.7  # correlation from which the forces of two levels belong together


@dataclass(frozen=True)
class Comparison:
    """A foundation model's predictions on some labelled structures.

    The composition explains the difference of energies, labels minus predictions, by ``shift``, and
    the ``agreement`` is of the rest. ``in_bohr`` is that of predictions for positions taken
    for Bohr, where the agreement leaves doubt.
    """

    structures: Sequence[Labelled]
    predictions: Sequence[Prediction]
    counts: np.ndarray
    shift: CompositionFit
    agreement: EnergyAgreement
    in_bohr: EnergyAgreement | None

    @property
    def telling(self) -> bool:
        """Whether enough energies that differ are predicted to compare their units."""
        return len(self.structures) >= FEWEST and self.agreement.model >= VARIED

    @property
    def labels(self) -> np.ndarray:
        """Energies (n_structures,) of the labels, eV."""
        return np.array([float(structure.labels["energy"]) for structure in self.structures])

    @property
    def energies(self) -> np.ndarray:
        """Predicted energies (n_structures,), eV."""
        return np.array([prediction.energy for prediction in self.predictions])

    @property
    def ratio(self) -> float:
        """Of the labels' energies over the model's, by what the composition leaves of both."""
        return self.proportion(self.labels)[0]

    def proportion(self, labels: np.ndarray) -> tuple[float, float]:
        """That ratio for energies (n_structures,), and their correlation."""
        own, predicted = (
            fit_atoms(self.counts, energies).residuals for energies in (labels, self.energies)
        )
        return proportion(own, predicted)

    def readings(self) -> dict[str, float]:
        """Units that would explain the labels' energies, and how they then follow the model's.

        They are of the same size then, and correlated as given. Too few energies have none.
        """
        found: dict[str, float] = {}
        if not self.telling:
            return found
        for name, factors in energy_readings(self.counts.sum(axis=1)).items():
            scale, correlation = self.proportion(factors * self.labels)
            if correlation > RELATED and unit_of(scale, {name: 1.0}):
                found[name] = correlation
        return found

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
    counts = counts_of(frames, elements)
    agreement = energy_agreement(counts, labels, energies)
    doubted = len(frames) >= FEWEST and not agreement.known
    return Comparison(
        structures,
        predictions,
        counts,
        shift=fit_composition(frames, labels - energies, elements),
        agreement=agreement,
        in_bohr=like_in_bohr(model, frames, counts, labels) if doubted else None,
    )


def like_in_bohr(
    model: Model, frames: Sequence[Atoms], counts: np.ndarray, labels: np.ndarray
) -> EnergyAgreement:
    """How the model's energies go with the labels (eV) if positions and cells are in Bohr."""
    scaled = [atoms.copy() for atoms in frames]
    for atoms in scaled:
        atoms.set_cell(atoms.cell * Bohr)
        atoms.positions *= Bohr
    found = progress(predict(model, scaled), "foundation, in Bohr", total=len(scaled))
    return energy_agreement(counts, labels, np.array([prediction.energy for prediction in found]))


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
    if comparison.in_bohr is not None and comparison.in_bohr.known:
        yield Finding(
            f"the foundation model leaves {comparison.agreement}, but {comparison.in_bohr} if the "
            "positions are taken for Bohr: they look like Bohr",
            "convert positions and cells to Å",
            wrong=True,
        )
        return
    found = comparison.readings()
    if found and "eV" not in found:
        best = max(found.values())
        names = " or ".join(name for name, related in found.items() if related > best - SAME)
        yield Finding(
            f"energies differ between structures by {comparison.ratio:.3g} times the foundation "
            f"model's: they look like {names}",
            "convert them to eV for a structure",
            wrong=True,
        )
    elif comparison.telling and comparison.agreement.another_surface:
        yield Finding(
            f"the foundation model leaves {comparison.agreement}: its surface is another one",
            "an anchor would hold on to it: train without one, or soften the model first by a "
            "structure with forces (mace-weak soften), or choose another foundation model",
        )
