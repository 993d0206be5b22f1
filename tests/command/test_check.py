"""What ``mace-weak check`` finds in data, and that it finds nothing in good data."""

from __future__ import annotations

import ast
import re

import misread_files
import numpy as np
import pytest
from ase.build import bulk, make_supercell
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.units import Hartree, kcal, mol
from datafiles import QUICKSTART, RECIPES
from labelled import labelled, rattled, written
from misread_files import FILES, some_stresses
from scipy.spatial.transform import Rotation

from mace_weak.command.check import check_data
from mace_weak.command.check_foundation import (
    FORCE_UNITS,
    all_electron_energy,
    compare,
    unit_of,
)
from mace_weak.command.check_geometry import force_energy_slope
from mace_weak.command.survey import SAMPLE, fingerprint, nearest, pairs_of, survey
from mace_weak.compositions import counts_of, fit_atoms
from mace_weak.errors import WeakLossError
from mace_weak.structures import Keys, Prediction
from mace_weak.versions import NEQUIP

KEYS = Keys()
AMMONIA = RECIPES / "cbs_energy_only" / "data"


def checked(train, valid=None):
    read_valid = None if valid is None else survey(valid, KEYS)
    return check_data(
        survey(train, KEYS), read_valid, None, foundation=None, model=None, keys=KEYS, device="cpu"
    )


def problems(train, valid=None) -> str:
    return "\n".join(finding.problem for finding in checked(train, valid).findings)


def test_good_data_have_no_findings(tmp_path):
    train = written(tmp_path / "train.xyz", rattled(30))
    valid = written(tmp_path / "valid.xyz", rattled(10, seed=1))
    result = checked(train, valid)
    assert result.findings == []
    assert f"--valid_file={valid}" in result.notes[0]


def test_the_projects_own_energies_have_no_findings():
    assert problems(AMMONIA / "train.xyz", AMMONIA / "test.xyz") == ""


def test_energies_alone_are_told_to_need_a_foundation_model():
    note = checked(AMMONIA / "train.xyz").notes[0]
    assert "energies alone teach a new model no forces: name a foundation model" in note


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(-1.0, "energies rise along the forces"), (mol / kcal, "times the work of the forces")],
)
def test_forces_of_another_sign_or_unit_are_found(tmp_path, factor, expected):
    frames = rattled(30)
    for atoms in frames:
        atoms.arrays["REF_forces"] *= factor
    assert expected in problems(written(tmp_path / "train.xyz", frames))


def test_forces_of_other_structures_are_found(tmp_path):
    frames = rattled(30)
    forces = [atoms.arrays["REF_forces"] for atoms in frames]
    for atoms, other in zip(frames, [*forces[1:], forces[0]], strict=True):
        atoms.arrays["REF_forces"] = other
    assert "do not belong together" in problems(written(tmp_path / "train.xyz", frames))


def test_the_slope_of_consistent_forces_is_one(tmp_path):
    found = survey(written(tmp_path / "train.xyz", rattled(60, length=0.02)), KEYS)
    slope, correlation, pairs = force_energy_slope(found)
    assert pairs > 20
    assert slope == pytest.approx(1, abs=0.02)
    assert correlation == pytest.approx(1, abs=0.01)


def test_a_rotated_and_relabelled_duplicate_is_found(tmp_path):
    frames = rattled(20)
    copy = frames[3].copy()[[0, 3, 1, 2]]
    copy.positions = Rotation.random(rng=0).apply(copy.positions)
    frames.append(labelled(copy))
    found = problems(written(tmp_path / "train.xyz", frames))
    assert "2 of 21 structures are duplicates (such as 3 and 20" in found
    assert "energies differ" not in found
    frames[-1].info["REF_energy"] += 0.1
    found = problems(written(tmp_path / "train.xyz", frames))
    assert "structures 3 and 20 are the same, and their energies differ by 25 meV/atom" in found


def test_structures_on_both_sides_of_a_split_are_found(tmp_path):
    frames = rattled(20)
    train = written(tmp_path / "train.xyz", frames)
    moved = frames[5].copy()
    moved.positions[0, 0] += 0.004
    valid = written(tmp_path / "valid.xyz", [labelled(moved), *rattled(5, seed=1)])
    assert "1 of 6 structures of" in problems(train, valid)


def test_missing_and_infinite_labels_are_found(tmp_path):
    frames = rattled(20)
    del frames[2].info["REF_energy"]
    frames[4].info["REF_energy"] = np.nan
    del frames[6].arrays["REF_forces"]
    found = problems(written(tmp_path / "train.xyz", frames))
    assert "1 of 20 structures have no energy" in found
    assert "the energy of 1 structures is NaN or infinite (the first is 4" in found
    assert "only 19 of 20 structures have forces" in found


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("REF_energy", "None", "expected a number, eV: 'None': correct"),
        ("REF_stress", np.ones(4), "expected six or nine numbers, eV/Å³: '[1. 1. 1. 1."),
    ],
)
def test_a_label_that_is_none_is_refused_in_one_line(tmp_path, key, value, expected):
    frames = rattled(3)
    frames[1].info[key] = value
    with pytest.raises(WeakLossError) as raised:
        survey(written(tmp_path / "train.xyz", frames), KEYS)
    assert "train.xyz', structure 1 (counted from 0): " in str(raised.value)
    assert f"invalid {key.removeprefix('REF_')} under key '{key}', {expected}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_stresses_that_are_not_learned_are_said_so(tmp_path):
    frames = rattled(20)
    for atoms in frames[:4]:
        atoms.info["REF_stress"] = np.zeros(6)
    (found,) = checked(written(tmp_path / "train.xyz", frames)).findings
    assert "the stress of 4 of 20 structures is not learned" in found.problem
    assert "--weak_base_loss=stress" in found.mend


def test_stresses_that_mace_would_take_for_zero_are_found(tmp_path):
    keys = Keys(energy="energy", stress="stress")
    found = check_data(
        survey(written(tmp_path / "cells.xyz", some_stresses()), keys), None, None,
        foundation=None, model=None, keys=keys, device="cpu",
    ).findings  # fmt: skip
    assert any("5 structures have no stress under ASE's own name" in one.problem for one in found)


def test_labels_that_nequip_prefers_to_those_of_the_keys_are_found(tmp_path):
    frames = rattled(12)
    for atoms in frames[4:]:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.info["REF_energy"] - 85.0)
    path = written(tmp_path / "both.xyz", frames)
    arguments = {"foundation": None, "model": None, "keys": KEYS, "device": "cpu"}
    found = check_data(survey(path, KEYS), None, None, **arguments, reader=NEQUIP).findings
    assert any(
        "8 structures (the first is 4, counted from 0) have other" in f.problem for f in found
    )
    assert not any("have other labels" in f.problem for f in checked(path).findings)  # for MACE
    for atoms in frames[4:]:
        atoms.calc.results["energy"] = atoms.info["REF_energy"]
    path = written(tmp_path / "same.xyz", frames)
    found = check_data(survey(path, KEYS), None, None, **arguments, reader=NEQUIP).findings
    assert not any("have other labels" in f.problem for f in found)


def test_energies_of_the_atoms_are_proposed_by_value_where_an_energy_is_missing(tmp_path):
    """Of which MACE's average makes NaN."""
    frames = rattled(20)
    assert "--E0s=average" in checked(written(tmp_path / "all.xyz", frames)).notes[0]
    del frames[2].info["REF_energy"]
    note = checked(written(tmp_path / "some.xyz", frames)).notes[0]
    energies = ast.literal_eval(re.search(r"--E0s=(\{.*?\})", note)[1])
    total = energies[7] + 3 * energies[1]
    mean = np.mean([atoms.info["REF_energy"] for n, atoms in enumerate(frames) if n != 2])
    assert total == pytest.approx(mean, abs=1e-4)


def test_equal_energies_of_different_structures_are_found(tmp_path):
    frames = rattled(12)
    for atoms in frames:
        atoms.info["REF_energy"] = -250.0
    found = checked(written(tmp_path / "train.xyz", frames)).findings
    said = "12 different structures have the same energy, -250 eV"
    assert any(said in one.problem and one.wrong for one in found)


def test_a_charge_with_two_values_is_told_by_file_and_structure(tmp_path):
    frames = rattled(3)
    frames[1].info |= {"charge": 1, "total_charge": 0}
    with pytest.raises(WeakLossError, match=r"structure 1 \(counted from 0\): .* disagree"):
        survey(written(tmp_path / "train.xyz", frames), KEYS)


def test_dummy_atoms_have_no_energy_to_compare_with(tmp_path):
    frames = rattled(12)
    for atoms in frames:
        atoms.symbols = "X4"
    assert "look like total energies" not in problems(written(tmp_path / "train.xyz", frames))


def test_the_largest_force_is_that_of_the_structures_that_have_some(tmp_path):
    frames = rattled(20)
    largest = max(np.linalg.norm(atoms.arrays["REF_forces"], axis=1).max() for atoms in frames[1:])
    del frames[0].arrays["REF_forces"]
    tables = checked(written(tmp_path / "train.xyz", frames)).tables
    scales = dict(next(table.rows for table in tables if table.title == "Scales"))
    assert scales["largest force, eV/Å"] == pytest.approx(largest)


def test_atoms_on_top_of_each_other_are_found(tmp_path):
    frames = rattled(20)
    frames[1].positions[1] = frames[1].positions[2] + [0.1, 0, 0]
    frames[2].arrays["REF_forces"] *= 1e3
    found = problems(written(tmp_path / "train.xyz", frames))
    assert "1 structures have atoms closer than 0.5 Å" in found
    assert "1 structures have forces above 50 eV/Å" in found


def test_an_element_that_only_validation_has_is_found(tmp_path):
    train = written(tmp_path / "train.xyz", rattled(5))
    other = rattled(5, seed=1)
    for atoms in other:
        atoms.symbols[0] = "P"
    assert "contains P" in problems(train, written(tmp_path / "valid.xyz", other))


def test_energies_of_the_valence_electrons_are_not_taken_for_another_unit():
    """Those of GFN1-xTB are as large as all-electron energies in Rydberg."""
    assert "look like" not in problems(QUICKSTART / "data" / "molecules_gfn1.xyz")


@pytest.mark.parametrize(("unit", "name"), [(Hartree, "Hartree"), (kcal / mol, "kcal/mol")])
def test_total_energies_in_another_unit_are_found(tmp_path, unit, name):
    frames = read(AMMONIA / "train.xyz", ":20")
    for atoms in frames:
        atoms.info["REF_energy"] /= unit
    found = problems(written(tmp_path / "train.xyz", frames))
    assert f"look like total energies in {name}" in found


@pytest.mark.parametrize(
    ("symbol", "hartree", "tolerance"),  # known total energies, exact or Hartree–Fock
    [
        ("He", -2.9037, 0.06),
        ("Ne", -128.547, 0.01),
        ("Ar", -526.818, 0.01),
        ("Kr", -2752.055, 0.01),
    ],
)
def test_all_electron_energies_are_about_right(symbol, hartree, tolerance):
    assert all_electron_energy(symbol) / Hartree == pytest.approx(hartree, rel=tolerance)


def test_units_are_told_apart():
    for name, size in FORCE_UNITS.items():
        assert unit_of(0.9 / size, FORCE_UNITS) == name
    assert unit_of(5.0, FORCE_UNITS) is None
    assert unit_of(-1.0, FORCE_UNITS) is None


def test_fingerprints_of_a_crystal_know_its_strain_and_not_its_orientation():
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.05, seed=0)
    turned = make_supercell(crystal, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    strained = crystal.copy()
    strained.set_cell(crystal.cell * [1.02, 1, 1], scale_atoms=True)
    prints = np.array(
        [fingerprint(atoms, pairs_of(atoms)) for atoms in (crystal, turned, strained)]
    )
    _, distance = nearest(prints[1:], prints[:1], within=1.0)
    assert distance[0] < 1e-5
    assert distance[1] > 1e-2


def test_the_composition_fit_recovers_the_energies_of_the_atoms():
    frames = read(RECIPES / "quickstart" / "data" / "molecules_gfn1.xyz", ":200")
    own = {"H": -13.0, "C": -1030.0, "N": -1485.0, "O": -2042.0}
    energies = np.array([sum(own[symbol] for symbol in atoms.symbols) for atoms in frames])
    fit = fit_atoms(counts_of(frames, list(own)), energies)
    assert fit.unique
    assert fit.by_element(list(own)) == pytest.approx(own)
    assert fit.rmse < 1e-6
    same = [atoms for atoms in frames if str(atoms.symbols) == str(frames[0].symbols)]
    alone = fit_atoms(counts_of(same, sorted(set(same[0].symbols))), energies[: len(same)])
    assert not alone.unique


def test_a_long_file_is_sampled(tmp_path):
    frames = rattled(10)
    long = written(tmp_path / "long.xyz", [frames[number % 10] for number in range(2 * SAMPLE)])
    found = survey(long, KEYS)
    numbers = [structure.number for structure in found.structures]
    assert len(set(numbers)) == SAMPLE
    assert np.mean(numbers) == pytest.approx(SAMPLE, rel=0.1)
    steps = list(found.steps)
    assert len(steps) >= SAMPLE - 1
    assert all(second.number == first.number + 1 for first, second in steps)


def test_the_energies_for_each_coordinate_are_counted(tmp_path):
    """Those of structures of one formula are told by all of its energies."""
    frames = [*rattled(30), labelled(bulk("Cu", cubic=True) * (2, 1, 1))]
    del frames[0].info["REF_energy"]
    atoms = len(frames[0]) + len(frames[-1])
    found = checked(written(tmp_path / "train.xyz", frames))
    scales = dict(next(table.rows for table in found.tables if table.title == "Scales"))
    assert scales["energies per coordinate of the atoms"] == 30 / (3 * atoms)


@pytest.mark.parametrize("name", FILES)
def test_labels_that_mace_would_misread_are_found(name, tmp_path):
    _, keys, message = FILES[name]
    path = misread_files.written(tmp_path, name)
    keys = Keys(**keys)
    if "(counted from 0): " in message:
        with pytest.raises(WeakLossError, match=re.escape(message)):
            survey(path, keys)
        return
    found = check_data(
        survey(path, keys), None, None, foundation=None, model=None, keys=keys, device="cpu"
    ).findings
    assert any(message in one.problem and one.wrong for one in found), found


def test_other_readers_do_not_misread(tmp_path):
    """nequip and finetune know what is missing under ASE's names, and take no isolated atoms."""
    for name in (
        "some forces under ASE's name",
        "isolated atoms of one element",
        "forces of atoms that are held",
        "energies where MACE does not look",
    ):
        _, keys, _ = FILES[name]
        keys = Keys(**keys)
        found = check_data(
            survey(misread_files.written(tmp_path, name), keys), None, None,
            foundation=None, model=None, keys=keys, device="cpu", reader=None,
        ).findings  # fmt: skip
        assert not any(one.wrong for one in found)


def test_the_other_spelling_of_isolated_atoms_is_known(tmp_path):
    frames = misread_files.valence_totals()
    for atoms in frames[:3]:
        atoms.info["config_type"] = "isolated_atom"
    path = written(tmp_path / "train.xyz", frames)
    assert survey(path, KEYS).isolated_atoms["O"] == -2036.0
    assert "3 isolated atoms have a config_type that MACE takes for structures" in problems(path)


def test_a_periodic_cell_of_one_atom_is_no_isolated_atom(tmp_path):
    cells = [bulk("Al") for _ in range(12)]
    for number, atoms in enumerate(cells):
        atoms.set_cell(atoms.cell * (0.97 + 0.005 * number), scale_atoms=True)
        atoms.info["REF_energy"] = -3.0 + 0.01 * (number - 6) ** 2
    found = survey(written(tmp_path / "cells.xyz", cells), KEYS)
    assert found.isolated_atoms == {}

    class Constant:
        elements, cutoff, dtype, atomic_energies = ["Al"], 5.0, "float64", {"Al": 0.0}

        def predictions(self, frames):
            return (Prediction(0.0, np.zeros((len(atoms), 3))) for atoms in frames)

    assert compare(Constant(), found) is not None
