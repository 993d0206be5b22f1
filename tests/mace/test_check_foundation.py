"""``mace-weak check`` with a foundation model of MACE, and the training that it proposes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.io import read, write
from ase.units import Bohr, Hartree, kcal, mol
from console import mace_weak, proposed_words, result_of, rows_of
from mace.calculators import MACECalculator
from predictions import calculated, relabelled
from training import NAME, atomic_energies, train

WITHOUT_TERMS = {"--loss=weak_taylor", "--weak_taylor_weight=0", "--weak_anchor=none"}


def test_the_shift_between_the_levels_is_what_the_energies_need(files, foundation):
    """The atoms' shifts, summed over ethanol, are the mean difference of the energies."""
    checked = result_of("check", files.ethanol, "--foundation", foundation)
    rows = rows_of(checked, "Energies of the atoms (E0s), eV; these formulas do not "
                   "determine them one by one", "element")  # fmt: skip
    left = rows_of(checked, "Energies beyond the atoms, RMS", "after")
    shift = sum(
        count * rows[symbol]["shift to these labels"]
        for symbol, count in {"C": 2, "H": 6, "O": 1}.items()
    )
    assert abs(shift) > 1000  # all-electron PBE against GFN1-xTB, eV
    spread = np.std([atoms.info["REF_energy"] for atoms in read(files.ethanol, ":")]) / 9
    assert left["fitted atoms alone"]["meV/atom"] == pytest.approx(1e3 * spread, rel=1e-3)


def own_labels(folder, files, foundation, *, energy_factor, force_factor=None):
    """Molecules with the foundation's own labels, so that it knows them well, times the factors."""
    frames = read(files.molecules, ":")
    calculator = MACECalculator(foundation, device="cpu", default_dtype="float64")
    for atoms, (energy, forces) in zip(frames, calculated(calculator, frames), strict=True):
        atoms.info["REF_energy"] = energy_factor * energy
        del atoms.arrays["REF_forces"]
        if force_factor is not None:
            atoms.arrays["REF_forces"] = force_factor * forces
    write(folder / "labelled.xyz", frames)
    return folder / "labelled.xyz"


def test_the_proposed_training_trains(tmp_path, files, foundation):
    checked = result_of(
        "check", own_labels(tmp_path, files, foundation, energy_factor=1.0),
        "--foundation", foundation,
    )  # fmt: skip
    flags = proposed(checked)
    assert "--loss=weak_taylor" in flags
    assert "--E0s=estimated" in flags
    assert max(shortly_trained(tmp_path, flags).column("loss_taylor")) > 0


def proposed(checked) -> list[str]:
    """The flags of the training that is proposed."""
    program, *flags = proposed_words(checked)
    assert program == "mace_run_train"
    return flags


def shortly_trained(folder, flags):
    shrunk = (f"--name={NAME}", "--max_num_epochs=2", "--eval_interval=1")
    return train(folder, *flags, *shrunk)


def test_the_proposed_energies_of_the_atoms_are_trained_on(tmp_path, files, copper_foundation):
    """Of a foundation of the elements of the data, whose own MACE would take."""
    frames = read(files.copper, ":")
    for atoms in frames:
        atoms.info["REF_energy"] += 7.0 * len(atoms)
    write(tmp_path / "shifted.xyz", frames)
    flags = proposed(
        result_of("check", tmp_path / "shifted.xyz", "--foundation", copper_foundation)
    )
    (asked,) = [flag for flag in flags if flag.startswith("--E0s={29: ")]
    assert set(flags) >= WITHOUT_TERMS
    (own,) = atomic_energies(torch.load(copper_foundation, weights_only=False))
    (new,) = shortly_trained(tmp_path, flags).atomic_energies
    assert new == pytest.approx(float(asked.removeprefix("--E0s={29: ").removesuffix("}")))
    assert new == pytest.approx(own + 7.0, abs=0.5)


def test_no_anchor_is_proposed_where_the_energies_do_not_follow_it(tmp_path, files, foundation):
    upside_down = own_labels(tmp_path, files, foundation, energy_factor=-1.0)
    checked = result_of("check", upside_down, "--foundation", foundation)
    assert "it disagrees with your labels" in str(checked["findings"])
    assert set(proposed(checked)) >= WITHOUT_TERMS


@pytest.mark.parametrize(
    ("energy_factor", "force_factor", "expected"),
    [
        (
            1.0,
            mol / kcal,
            "forces are 23.1 times the foundation model's: they look like kcal",
        ),
        (1.0, -1.0, "point against the foundation model's"),
        (mol / kcal, 1.0, "energies differ between structures by 23.1 times"),
    ],
)
def test_labels_in_another_unit_or_sign_than_the_foundations_are_found(
    tmp_path, files, foundation, energy_factor, force_factor, expected
):
    labelled = own_labels(
        tmp_path, files, foundation, energy_factor=energy_factor, force_factor=force_factor
    )
    (found,) = foundation_findings(labelled, foundation)
    assert expected in found


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (lambda atoms: 2 / Hartree, "they look like Rydberg"),
        (lambda atoms: 1 / len(atoms), "they look like eV per atom"),
        (lambda atoms: 1 / len(atoms) / Hartree, "they look like Hartree per atom"),
    ],
)
def test_the_unit_that_would_explain_the_energies_is_named(
    tmp_path, files, foundation, factor, expected
):
    labelled = own_labels(tmp_path, files, foundation, energy_factor=1.0)
    frames = read(labelled, ":")
    for atoms in frames:
        atoms.info["REF_energy"] *= factor(atoms)
    write(labelled, frames)
    (found,) = foundation_findings(labelled, foundation)
    assert found.endswith(expected)


def test_of_molecules_of_one_size_both_units_are_named(tmp_path, files, foundation):
    """Of ethanol's nine atoms 111 times: kJ/mol are 96 times eV."""
    frames = read(files.ethanol, ":")
    labelled = relabelled(tmp_path / "train.xyz", frames, foundation, factor=1000 / 9)
    (found,) = foundation_findings(labelled, foundation)
    assert found.endswith("they look like kJ/mol or meV per atom")


def test_positions_in_bohr_are_found(tmp_path, files, foundation):
    labelled = own_labels(tmp_path, files, foundation, energy_factor=1.0)
    frames = read(labelled, ":")
    for atoms in frames:
        atoms.set_cell(atoms.cell / Bohr, scale_atoms=False)
        atoms.positions /= Bohr
    write(labelled, frames)
    (found,) = foundation_findings(labelled, foundation)
    assert "the positions are taken for Bohr" in found


def foundation_findings(labelled, foundation) -> list[str]:
    """What ``check`` finds about the foundation model."""
    found = result_of("check", labelled, "--foundation", foundation)
    return [one["problem"] for one in found["findings"] if "foundation" in one["problem"]]


def test_elements_that_the_foundation_lacks_are_found(files, foundation):
    found = result_of("check", files.copper, "--foundation", foundation)
    assert "contains Cu, which the foundation model lacks" in str(found["findings"])


def test_a_file_that_is_no_model_is_bad_use(files):
    done = mace_weak("check", files.ethanol, "--foundation", files.ethanol)
    assert done.returncode == 2
    assert "cannot be read as a model of mace-torch" in done.stderr
