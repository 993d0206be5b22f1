"""What a foundation model says of labels: outliers, units, charges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from labelled import labelled, rattled, written

from mace_weak.command.check_foundation import (
    check_energies,
    check_forces,
    compare,
    far_off,
    unsuitable_model,
)
from mace_weak.command.check_geometry import duplicates
from mace_weak.command.survey import survey
from mace_weak.structures import Keys, Prediction

KEYS = Keys()


@dataclass
class Model:
    """The surface of ``labelled``, so many times as stiff, with some scatter."""

    stiffness: float = 1.0
    scatter: float = 0.01  # eV
    reads: tuple[str, ...] = ()
    elements: tuple[str, ...] = ("H", "N")
    cutoff: float = 5.0
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def predictions(self, frames):
        for atoms in frames:
            known = labelled(atoms)
            energy = self.stiffness * known.info["REF_energy"] + self.generator.normal(
                scale=self.scatter
            )
            yield Prediction(energy, self.stiffness * known.arrays["REF_forces"])


def compared(folder, frames, model):
    return compare(model, survey(written(folder / "train.xyz", frames), KEYS))


def problems(findings) -> str:
    return "\n".join(finding.problem for finding in findings)


def test_energies_that_are_far_from_the_others_are_named(tmp_path):
    frames = rattled(30)
    assert problems(check_energies(compared(tmp_path, frames, Model()))) == ""
    for number, error in ((4, 3.0), (17, -1.0)):
        frames[number].info["REF_energy"] += error
    found = problems(check_energies(compared(tmp_path, frames, Model())))
    assert "the energies of 2 structures (4, 17, counted from 0) are up to 75" in found


def test_energies_of_two_units_are_found(tmp_path):
    frames = rattled(20)
    for atoms in frames:
        atoms.info["REF_energy"] -= 1500.0
    for atoms in frames[-5:]:
        atoms.info["REF_energy"] /= 27.2114
    found = problems(check_energies(compared(tmp_path, frames, Model())))
    assert "the energies of 5 structures (" in found


def test_scatter_has_no_outliers():
    generator = np.random.default_rng(0)
    assert not far_off(generator.normal(scale=0.05, size=500)).any()
    assert not far_off(generator.laplace(scale=0.05, size=100)).any()
    assert not far_off(np.append(np.zeros(20), 0.005)).any()


@pytest.mark.parametrize("stiffness", [0.55, 1.9])
def test_a_model_that_is_too_stiff_or_soft_is_no_unit(tmp_path, stiffness):
    found = compared(tmp_path, rattled(20), Model(stiffness))
    assert problems(check_forces(found)) == ""


def test_forces_of_another_unit_than_the_energies_are_found(tmp_path):
    frames = rattled(20)
    for atoms in frames:
        atoms.arrays["REF_forces"] *= 0.529177
    (finding,) = check_forces(compared(tmp_path, frames, Model()))
    assert "they look like eV/Bohr" in finding.problem
    assert finding.wrong


@pytest.mark.parametrize(("reads", "expected"), [((), 1), (("total_charge", "total_spin"), 0)])
def test_charges_that_the_model_does_not_read_are_found(tmp_path, reads, expected):
    frames = rattled(8)
    for atoms in frames[::2]:
        atoms.info |= {"total_charge": 1, "total_spin": 2}
    for atoms in frames[1::2]:
        atoms.info |= {"charge": 0}  # and one spin, as that of structures that do not say
    found = survey(written(tmp_path / "train.xyz", frames), KEYS)
    findings = list(unsuitable_model(Model(reads=reads), [found]))
    assert len(findings) == expected
    assert all("total_charge and total_spin" in finding.problem for finding in findings)
    frames[2].info["total_charge"] = 1.0
    alike = survey(written(tmp_path / "alike.xyz", frames[::2]), KEYS)
    assert not list(unsuitable_model(Model(reads=reads), [alike]))


def test_an_ion_is_no_copy_of_its_neutral_molecule(tmp_path):
    (neutral,) = rattled(1)
    ion = neutral.copy()
    ion.info |= {"total_charge": 1, "REF_energy": neutral.info["REF_energy"] + 9.0}
    assert not list(duplicates(survey(written(tmp_path / "train.xyz", [neutral, ion]), KEYS)))
