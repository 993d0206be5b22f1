"""Labels that a training would read as something else."""

from __future__ import annotations

import numpy as np
import pytest

from mace_weak.misread import (
    coarse_energies,
    filled_with_zeros,
    foreign_atoms,
    isolated_atoms,
    no_forces,
    same_forces,
)

ATOMS = {"C": -38.0, "H": -13.6, "O": -75.0}
ETHANOLS = {"C": np.full(5, 2), "H": np.full(5, 6), "O": np.full(5, 1)}
BINDING = -36.0  # eV, of ethanol


def totals(shift: float = 0.0) -> np.ndarray:
    apart = sum(counts * ATOMS[symbol] for symbol, counts in ETHANOLS.items())
    return apart + BINDING + shift + 0.1 * np.arange(5)


def test_only_what_is_missing_under_ases_own_names_becomes_zero():
    assert "30 structures have no forces" in str(filled_with_zeros("forces", "forces", 30))
    assert filled_with_zeros("forces", "forces", 0) is None
    assert filled_with_zeros("forces", "REF_forces", 30) is None


def test_forces_that_are_nobodys_are_known():
    zero, one = np.zeros((3, 3)), np.arange(9.0).reshape(3, 3)
    assert "are zero" in str(no_forces([zero, zero]))
    assert no_forces([zero, one]) is None
    assert no_forces([zero]) is None
    assert "the same forces" in str(same_forces([one, one.copy(), one.copy()]))
    assert same_forces([one, 2 * one]) is None
    assert same_forces([zero, zero]) is None  # which symmetry may do


@pytest.mark.parametrize(
    ("energies", "key", "expected"),
    [
        (ATOMS, "REF_energy", []),
        ({}, "energy", []),
        (ATOMS, "energy", ["takes them for 0 eV"]),
        ({**ATOMS, "H": None}, "REF_energy", ["isolated atoms of H have no energy"]),
        ({"H": -13.6}, "REF_energy", ["but not of C, O"]),
    ],
)
def test_isolated_atoms_are_all_there_with_energies(energies, key, expected):
    found = list(isolated_atoms(energies, ["C", "H", "O"], energy_key=key))
    assert len(found) == len(expected)
    for problem, part in zip(found, expected, strict=True):
        assert part in str(problem)


def test_equal_energies_have_no_differences_to_lose():
    counts, energies = np.ones((6, 1)), np.full(6, -14.25)
    assert coarse_energies(counts, energies, dtype="float32") is None


def test_isolated_atoms_of_another_method_are_known():
    assert foreign_atoms(ATOMS, ETHANOLS, totals()) is None
    problem = foreign_atoms({**ATOMS, "C": -1027.0}, ETHANOLS, totals())
    assert "another method than the structures" in str(problem)
    assert foreign_atoms({"H": -13.6}, ETHANOLS, totals()) is None  # too few to compare


def test_energies_that_single_precision_cannot_tell_apart_are_known():
    counts = np.stack(list(ETHANOLS.values()), axis=1)
    assert coarse_energies(counts, totals(), dtype="float32") is None
    assert coarse_energies(counts, totals(-1e7), dtype="float64") is None
    assert "rounded to 1 eV" in str(coarse_energies(counts, totals(-1e7), dtype="float32"))
    four = np.eye(4)  # what atoms explain by themselves differs by nothing that could be lost
    assert coarse_energies(four, 1e7 * np.arange(4.0), dtype="float32") is None
