"""Labels that are switched off or weighed, and atoms that are alone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from labelled import rattled, written

from mace_weak.command.check_labels import FINETUNE, misread_by_maces_reader, unread_weights
from mace_weak.command.finetune_files import read_training
from mace_weak.command.survey import survey
from mace_weak.errors import WeakLossError
from mace_weak.structures import Keys, is_alone
from mace_weak.versions import MACE, NEQUIP

KEYS = Keys()


def with_placeholders(path):
    """Zeros in place of some labels, which MACE's weights switch off."""
    frames = rattled(12)
    for atoms in frames[:3]:
        atoms.info |= {"REF_energy": 0.0, "config_energy_weight": 0.0}
    for atoms in frames[3:8]:
        atoms.arrays["REF_forces"][:] = 0.0
        atoms.info["config_forces_weight"] = 0.0
    frames[8].info["config_weight"] = 0.0
    return written(path, frames)


def test_labels_of_weight_zero_are_none(tmp_path):
    path = with_placeholders(tmp_path / "train.xyz")
    structures = read_training(path, KEYS)
    assert np.flatnonzero(np.isnan(structures.energies)).tolist() == [0, 1, 2, 8]
    assert [number for number, one in enumerate(structures.forces) if one is None] == [
        3,
        4,
        5,
        6,
        7,
        8,
    ]
    found = survey(path, KEYS)
    assert found.labels == {"energy": 8, "forces": 6}
    assert found.switched_off == {"energy": 4, "forces": 6}
    (finding,) = unread_weights(found, NEQUIP)
    assert finding.wrong
    assert "10 labels have the weight 0" in finding.problem
    assert not list(unread_weights(found, MACE))
    assert not list(unread_weights(found, FINETUNE))


def test_weights_that_only_mace_reads_are_found(tmp_path):
    frames = rattled(4)
    frames[2].info["config_weight"] = 10.0
    found = survey(written(tmp_path / "train.xyz", frames), KEYS)
    for reader in (NEQUIP, FINETUNE):
        (finding,) = unread_weights(found, reader)
        assert "1 structures (the first is 2, counted from 0)" in finding.problem
        assert reader in finding.problem
    assert not list(unread_weights(found, MACE))


def test_a_weight_that_is_no_number_is_refused(tmp_path):
    frames = rattled(2)
    frames[1].info["config_weight"] = "heavy"
    with pytest.raises(WeakLossError, match=r"structure 1 .*config_weight is 'heavy'"):
        read_training(written(tmp_path / "train.xyz", frames), KEYS)


def lone(symbol="H", **cell) -> Atoms:
    return Atoms(symbol, info={"REF_energy": -13.0}, **cell)


def test_atoms_alone_are_left_out_and_found(tmp_path):
    box = {"cell": [15.0] * 3, "pbc": True}
    path = written(tmp_path / "train.xyz", [*rattled(6), lone(), lone(**box)])
    structures = read_training(path, KEYS)
    assert (len(structures.frames), structures.isolated) == (6, 2)
    (finding,) = misread_by_maces_reader(survey(path, KEYS), KEYS, dtype="float64")
    assert "2 atoms alone (the first is structure 6" in finding.problem


@pytest.mark.parametrize(
    ("atoms", "alone"),
    [
        (lone(), True),
        (lone(cell=[15.0] * 3, pbc=True), True),
        (lone(cell=[2.5, 15.0, 15.0], pbc=True), False),
        (lone(cell=[15.0, 0.0, 0.0], pbc=[True, False, False]), True),
        (Atoms("H2", [[0, 0, 0], [0, 0, 20.0]]), False),
    ],
)
def test_an_atom_is_alone_where_its_images_are_far(atoms, alone):
    assert is_alone(atoms) == alone
