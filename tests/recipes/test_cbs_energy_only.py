"""The recipe for energies at the complete-basis-set limit: its labels and their differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.units import Hartree
from datafiles import RECIPES, run_recipe

from recipes.cbs_energy_only import composite, labels
from recipes.cbs_energy_only.composite import (
    Composite,
    ConvergenceError,
    correlation_limit,
    hartree_fock_limit,
)
from recipes.cbs_energy_only.differences import (
    Modes,
    force_jobs,
    forces_of,
    frequencies,
    reduced_hessian,
)
from recipes.cbs_energy_only.labels import Job, labelled
from recipes.cbs_energy_only.vibrations import force_hessian, harmonic_wavenumbers, relaxed

CBS = RECIPES / "cbs_energy_only"
WATER = Atoms(
    "OH2",
    [
        [0, 0, 0],
        [0.9572, 0, 0],
        [0.9572 * math.cos(math.radians(104.52)), 0.9572 * math.sin(math.radians(104.52)), 0],
    ],
)


def test_the_limits_are_those_of_their_formulas():
    energies = [-1.0 + 0.3 * math.exp(-5.46 * math.sqrt(level)) for level in (3, 4)]
    assert hartree_fock_limit(*energies) == pytest.approx(-1.0, abs=1e-12)
    energies = [-0.2 + 0.3 * level**-3 for level in (3, 4)]
    assert correlation_limit(*energies) == pytest.approx(-0.2, abs=1e-12)


# Limits in hartree of Hartree-Fock and of MP2 with frozen cores: Halkier et al., Chem. Phys. Lett.
# 286, 243 (1998); Helgaker et al., J. Chem. Phys. 106, 9639 (1997)
@pytest.mark.parametrize(
    ("atoms", "hartree_fock", "mp2"),
    [(WATER, -76.0674, -0.3005), (Atoms("Ne"), -128.5471, -0.3202)],
    ids=["water", "neon"],
)
def test_the_composite_comes_near_published_limits(atoms, hartree_fock, mp2):
    """Four fifths of the error of cc-pVQZ are gone."""
    result = composite.composite(atoms)
    assert abs(result.hf - hartree_fock) < 0.2 * abs(result.hf_qz - hartree_fock)
    assert abs(result.mp2 - mp2) < 0.2 * abs(result.mp2_qz - mp2)
    total = result.hf + result.mp2 + result.ccsdt_tz - result.mp2_tz
    assert result.energy == pytest.approx(total * Hartree)


def test_density_fitting_keeps_the_surface():
    """Its error is common to the geometries, to a few hundredths of a meV."""
    stretched = WATER.copy()
    stretched.positions[1] *= 1.1
    errors = []
    for atoms in (WATER, stretched):
        totals = []
        for fitted in (True, False):
            field = composite.hartree_fock(atoms, "cc-pVQZ", fitted=fitted, memory=4000)
            second_order = composite.second_order(field, 1, fitted=fitted)
            totals.append((field.e_tot + second_order) * Hartree)
        errors.append(totals[0] - totals[1])
    assert 0 < abs(errors[0]) < 4e-3  # eV
    assert abs(errors[0] - errors[1]) < 1e-4


def test_odd_electrons_are_refused():
    with pytest.raises(ValueError, match="odd number of electrons"):
        composite.composite(Atoms("OH", [[0, 0, 0], [0, 0, 1]]))


def test_frozen_orbitals():
    assert composite.frozen_orbitals(WATER) == 1
    assert composite.frozen_orbitals(Atoms("SiH4")) == 5


def counted(atoms: Atoms) -> Composite:
    """In place of a calculation; that of a lone atom at x = 2 does not converge."""
    if atoms.positions[0, 0] == 2:
        raise ConvergenceError("Hartree-Fock did not converge")
    return Composite(*(float(atoms.positions[0, 0]) for _ in range(5)))


def test_labels_are_kept_and_failures_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(labels, "composite", counted)
    jobs = [Job(f"job-{index}", Atoms("He", [[index, 0, 0]])) for index in range(4)]
    jobs[0].atoms.calc = SinglePointCalculator(jobs[0].atoms)
    jobs[0].atoms.calc.handle = lambda: None  # which no other process can have
    lines = tmp_path / "labels.jsonl"
    first = labelled(jobs, lines, processes=2, what="test")
    assert set(first) == {"job-0", "job-1", "job-3"}
    assert len(lines.read_text().splitlines()) == 3
    assert "job-2: Hartree-Fock did not converge; left out" in capsys.readouterr().out
    jobs[3] = Job("job-3", Atoms("He", [[5, 0, 0]]))  # another geometry is another job
    second = labelled(jobs, lines, processes=2, what="test")
    assert second["job-3"].hf_tz == 5
    assert second["job-1"] == first["job-1"]
    assert len(lines.read_text().splitlines()) == 4


@pytest.fixture
def tetrahedron() -> Atoms:
    """Four different masses at a minimum of a Morse potential."""
    corners = [[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
    return relaxed(Atoms("HNOF", corners), MorsePotential(epsilon=2.0, r0=1.2, rho0=4.0))


def energies_of(jobs: list[Job], calculator) -> dict[str, float]:
    return {job.name: calculator.get_potential_energy(job.atoms) for job in jobs}


def test_forces_from_differences(tetrahedron):
    tetrahedron.rattle(0.1, seed=1)
    energies = energies_of(force_jobs("x", tetrahedron), tetrahedron.calc)
    found = forces_of("x", tetrahedron, energies)
    np.testing.assert_allclose(found, tetrahedron.get_forces(), atol=3e-3)


def test_frequencies_from_differences(tetrahedron):
    hessian = force_hessian(tetrahedron)
    expected = frequencies(reduced_hessian(tetrahedron, hessian))
    assert len(expected) == 6
    assert expected.min() > 100
    modes = Modes.of(tetrahedron, np.eye(12))  # any vibrations will do
    energies = energies_of(modes.jobs("x"), tetrahedron.calc)
    _, found = modes.gradient_and_hessian("x", energies)
    np.testing.assert_allclose(frequencies(found), expected, rtol=2e-3)
    np.testing.assert_allclose(
        harmonic_wavenumbers(tetrahedron, tetrahedron.calc), expected, rtol=1e-3
    )


def test_newton_finds_the_minimum(tetrahedron):
    start = tetrahedron.copy()
    start.rattle(0.002, seed=1)
    start.calc = tetrahedron.calc
    modes = Modes.of(start, force_hessian(start))
    energies = energies_of(modes.jobs("x"), tetrahedron.calc)
    nearer = modes.newton_step(*modes.gradient_and_hessian("x", energies))
    nearer.calc = tetrahedron.calc
    assert np.abs(nearer.get_forces()).max() < 0.1 * np.abs(start.get_forces()).max()


def test_a_linear_molecule_has_a_vibration_more():
    atoms = Atoms("CO2", [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]])
    assert Modes.of(atoms, np.eye(9)).steps.shape == (4, 3, 3)


def test_the_data_is_what_its_script_makes():
    train, test = (read(CBS / "data" / f"{name}.xyz", ":") for name in ("train", "test"))
    assert len(train) == 150
    assert len(test) >= 15
    assert not any("REF_forces" in frame.arrays for frame in train)
    assert all(frame.info["level"] == composite.LEVEL for frame in (*train, *test))
    forces = np.array([frame.arrays["REF_forces"] for frame in test])
    assert 0.5 < np.sqrt(np.mean(forces**2)) < 5
    assert np.abs(forces.sum(axis=1)).max() < 0.02  # of differences, each for itself
    assert composite.composite(test[0]).energy == pytest.approx(
        test[0].info["REF_energy"], abs=1e-6
    )


@pytest.mark.slow
def test_the_data_of_hydrogen(tmp_path):
    """By the command of the README: the bond length and the harmonic wavenumber are H₂'s.

    0.7414 Å and 4401 cm⁻¹: Huber and Herzberg, Constants of Diatomic Molecules (1979).
    """
    pytest.importorskip("tblite.ase", reason="tblite is not installed")
    arguments = [f"--out={tmp_path}", "--molecule=H2", "--train=3", "--test=2", "--processes=2"]
    run_recipe(CBS / "make_data.py", *arguments)
    minimum = read(tmp_path / "minimum.xyz")
    assert minimum.get_distance(0, 1) == pytest.approx(0.7414, abs=5e-4)
    assert minimum.info["wavenumbers"] == pytest.approx(4401, abs=5)
    train, test = (read(tmp_path / f"{name}.xyz", ":") for name in ("train", "test"))
    assert len(train) == 3
    assert not any("REF_forces" in frame.arrays for frame in train)
    assert all(frame.info["REF_energy"] > minimum.info["REF_energy"] for frame in (*train, *test))
    for frame in test:  # outwards where the bond is short, inwards where it is long
        bond = frame.positions[1] - frame.positions[0]
        length = np.linalg.norm(bond)
        pull = frame.arrays["REF_forces"][1] @ bond / length
        assert np.sign(pull) == np.sign(0.7414 - length)
    before = (tmp_path / "labels.jsonl").read_text()
    run_recipe(CBS / "make_data.py", *arguments)
    assert (tmp_path / "labels.jsonl").read_text() == before
