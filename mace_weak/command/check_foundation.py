"""Whether a foundation model suits the data: elements, cutoff, level of theory, units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree, kcal, kJ, mol

from mace_weak.command.models import Model, predict
from mace_weak.command.output import Finding, progress
from mace_weak.command.survey import Labelled, Survey
from mace_weak.compositions import (
    FEWEST,
    VARIED,
    AtomFit,
    EnergyAgreement,
    counts_of,
    energy_agreement,
    fit_atoms,
    proportion,
)
from mace_weak.structures import Prediction, evenly

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
STIFFEST = "eV/Bohr"  # half of eV/Å: what a foundation model can be wrong by itself
CERTAIN = 0.2  # of the logarithm: no two units are as close
PREDICTED = 200  # structures that the foundation model is run on
SAME_ZERO = 0.01  # eV, of the energies of the atoms
OUTLYING = 15.0  # median deviations: ten standard deviations of normal errors
LEAST = 0.01  # eV/atom, an energy that is off by less is no outlier
MINORITY = 1 / 3  # of the structures, which outliers can be
NAMED = 5  # of them
STILL = 0.1  # eV/Å, above which the foundation model's forces are not zero
UNRELATED = 0.3  # correlation below which forces are unrelated
SAME = 0.02  # difference of correlations that means nothing
RELATED = 0.7  # correlation from which the forces of two levels belong together


@dataclass(frozen=True)
class Comparison:
    """A foundation model's predictions on some labelled structures.

    ``counts`` (n_structures, n_elements) are the numbers of atoms of the ``elements``. ``shift``
    are the energies of the atoms that explain the difference of energies, labels minus predictions;
    the ``agreement`` is of the rest. ``in_bohr`` is that of predictions for positions that are
    taken for Bohr, where the agreement leaves a doubt.
    """

    structures: Sequence[Labelled]
    predictions: Sequence[Prediction]
    elements: Sequence[str]
    counts: np.ndarray
    labels: np.ndarray
    energies: np.ndarray
    shift: AtomFit
    agreement: EnergyAgreement
    in_bohr: EnergyAgreement | None

    @cached_property
    def shifts(self) -> dict[str, float]:
        """``shift`` by element, eV."""
        return self.shift.by_element(self.elements)

    @property
    def comparable(self) -> bool:
        """Whether enough different energies are predicted to compare their units."""
        return len(self.structures) >= FEWEST and self.agreement.model >= VARIED

    @cached_property
    def beyond_composition(self) -> np.ndarray:
        """What the composition leaves of the predicted energies (n_structures,), eV/atom."""
        return fit_atoms(self.counts, self.energies).residuals

    @property
    def ratio(self) -> float:
        """Of the labels' energies over the model's, by what the composition leaves of both."""
        return self.proportion(self.labels)[0]

    def proportion(self, labels: np.ndarray) -> tuple[float, float]:
        """That ratio for energies (n_structures,), and their correlation."""
        return proportion(fit_atoms(self.counts, labels).residuals, self.beyond_composition)

    @cached_property
    def readings(self) -> dict[str, float]:
        """Units that would explain the labels' energies, and how they then follow the model's.

        They are of the same size then, and correlated as given. Too few energies have none.
        """
        found: dict[str, float] = {}
        if not self.comparable:
            return found
        for name, factors in energy_readings(self.counts.sum(axis=1)).items():
            scale, correlation = self.proportion(factors * self.labels)
            if correlation > RELATED and unit_of(scale, {name: 1.0}):
                found[name] = correlation
        return found

    def as_stiff(self, ratio: float) -> bool:
        """Whether the energies explain that the labels' forces are ``ratio`` times the model's.

        They follow the model's, and are of as small or large a scale: it is too stiff or too soft.
        """
        low, high = sorted((1.0, self.ratio))
        tolerance = float(np.exp(CERTAIN))
        return self.agreement.follows and low / tolerance < ratio < high * tolerance

    @property
    def shifted(self) -> bool:
        """Whether the labels have another zero of energy than the model."""
        return bool(np.abs(self.shift.energies).max() > SAME_ZERO)

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
        elements,
        counts,
        labels,
        energies,
        shift=fit_atoms(counts, labels - energies),
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


def unsuitable_model(model: Model, surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Elements that the model lacks, and atoms without neighbours within its cutoff."""
    for survey in surveys:
        missing = survey.elements - set(model.elements)
        if missing:
            yield Finding(
                f"{survey.path} contains {', '.join(sorted(missing))}, which the foundation model "
                f"lacks (it has {', '.join(model.elements)})",
                "choose a foundation model trained on all elements",
                wrong=True,
            )
        if unread := survey.states - set(model.reads):
            yield Finding(
                f"{survey.path}: the structures differ in {' and '.join(sorted(unread))}, which "
                "the foundation model does not read",
                "take a foundation model that does, or structures of one charge and spin",
            )
        alone = int(np.sum(np.array(survey.nearest_neighbours) > model.cutoff))
        if alone:
            yield Finding(
                f"{survey.path}: in {alone} structures an atom has no neighbour within the "
                f"foundation's cutoff, {model.cutoff:g} Å",
                "remove them, or label the fragments alone: the model ignores such distances",
            )


def check_forces(comparison: Comparison) -> Iterator[Finding]:
    """Forces of another sign or unit than the foundation model's, or unrelated to them."""
    reference, predicted = comparison.forces()
    ratio, related = proportion(reference, predicted)
    if len(reference) and not reference.any() and np.std(predicted) > STILL:
        yield Finding(
            f"the forces are zero, those of the foundation model {np.std(predicted):.2g} eV/Å",
            "leave them out if they were not calculated",
            wrong=True,
        )
    if related < -RELATED:
        yield Finding(
            f"the forces point against the foundation model's (correlation {related:.2f})",
            "change their sign: forces are −∂E/∂r, not the gradient",
            wrong=True,
        )
    elif abs(related) < UNRELATED:
        yield Finding(
            f"the forces are unrelated to the foundation model's (correlation {related:.2f})",
            "check that they belong to these structures, with the atoms in this order",
        )
    unit = unit_of(ratio, FORCE_UNITS) if related > RELATED else None
    if unit not in (None, "eV/Å") and not comparison.as_stiff(ratio):
        yield Finding(
            f"the forces are {ratio:.3g} times the foundation model's: they look like {unit}",
            "convert them to eV/Å"
            + (", unless the foundation model is too stiff" if unit == STIFFEST else ""),
            wrong=unit != STIFFEST or "eV" in comparison.readings,
        )


def check_energies(comparison: Comparison) -> Iterator[Finding]:
    """Energies in another unit than the foundation model's, or unrelated to them."""
    yield from outliers(comparison)
    if comparison.in_bohr is not None and comparison.in_bohr.known:
        yield Finding(
            f"the foundation model leaves {comparison.agreement}, but {comparison.in_bohr} if the "
            "positions are taken for Bohr: they look like Bohr",
            "convert positions and cells to Å",
            wrong=True,
        )
        return
    found = comparison.readings
    if found and "eV" not in found:
        best = max(found.values())
        names = " or ".join(name for name, related in found.items() if related > best - SAME)
        yield Finding(
            f"energies differ between structures by {comparison.ratio:.3g} times the foundation "
            f"model's: they look like {names}",
            "convert them to eV per structure",
            wrong=True,
        )
    elif comparison.comparable and comparison.agreement.another_surface:
        yield Finding(
            f"the foundation model leaves {comparison.agreement}: it disagrees with your labels",
            "choose another foundation model, train without an anchor, or add a structure of high "
            "energy with forces",
        )


def outliers(comparison: Comparison) -> Iterator[Finding]:
    """Energies that are far from the foundation model's, where those of most structures are not."""
    sizes = comparison.counts.sum(axis=1)
    far = far_off(comparison.shift.residuals)
    few = 0 < far.sum() < MINORITY * len(far)
    if len(far) < FEWEST or not few or comparison.agreement.another_scale:
        return
    differences = comparison.labels - comparison.energies
    atoms = fit_atoms(comparison.counts[~far], differences[~far]).energies
    away = np.abs(differences - comparison.counts @ atoms) / sizes
    places = np.flatnonzero(far)[np.argsort(-away[far], kind="stable")]
    named = ", ".join(str(comparison.structures[place].number) for place in places[:NAMED])
    usual = float(np.sqrt(np.mean(away[~far] ** 2)))
    yield Finding(
        f"the energies of {far.sum()} structures ({named}{', …' if len(places) > NAMED else ''}, "
        f"counted from 0) are up to {1e3 * away[far].max():.3g} meV/atom from the foundation "
        f"model's, those of the others {1e3 * usual:.3g}",
        "check that they are converged, and of the same unit and method as the others",
    )


def far_off(residuals: np.ndarray) -> np.ndarray:
    """Which residuals (n_structures,) in eV/atom are beyond all scatter of the others."""
    away = np.abs(residuals - np.median(residuals))
    return away > max(OUTLYING * float(np.median(away)), LEAST)


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
    return whole | {f"{name} per atom": size * sizes for name, size in ENERGY_UNITS.items()}


def all_electron_energy(symbol: str) -> float:
    """Total energy of an atom with all of its electrons, eV, within some per cent.

    The Thomas–Fermi energy with Scott's and Schwinger's corrections (B.-G. Englert and J.
    Schwinger, Phys. Rev. A 32, 26 (1985)).
    """
    z = float(atomic_numbers[symbol])
    return Hartree * (-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3))
