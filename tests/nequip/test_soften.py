"""``mace-weak soften`` with nequip's models."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.io import read, write
from console import mace_weak, result_of, rows_of
from nequip.integrations.ase import NequIPCalculator
from predictions import calculated, softened

from mace_weak.errors import WeakLossError
from mace_weak.nequip.one_structure import require_trainable

SOFT = 0.8
TRAINED, OTHERS = "Structure 5, C2H6O, trained on", "The other 11, not trained on"


@pytest.fixture(scope="module")
def labelled(files, foundation):
    """Structures for which the foundation is too soft by a fifth, on another level of theory."""
    return softened(calculator_of(foundation), read(files.ethanol, ":"), SOFT)


@pytest.fixture(scope="module")
def data(labelled, tmp_path_factory):
    path = tmp_path_factory.mktemp("soft") / "labelled.xyz"
    write(path, labelled)
    return path


@pytest.fixture(scope="module")
def softening(data, foundation, tmp_path_factory):
    out = tmp_path_factory.mktemp("softening") / "model"
    flags = ("--index=5", "--lr=0.003", "--epochs=60", f"--out={out}")
    return result_of("soften", foundation, data, *flags), out


def calculator_of(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how torch loads packages
        return NequIPCalculator._from_saved_model(model, chemical_species_to_atom_type_map=True)


def test_one_structure_mends_the_forces_of_the_others(softening):
    found, _ = softening
    for title in (TRAINED, OTHERS):
        rows = rows_of(found, title, "model")
        assert rows["before"]["force slope"] == pytest.approx(SOFT, abs=1e-3)
        assert rows["after"]["force slope"] == pytest.approx(1.0, abs=0.05)
        assert rows["after"]["forces, meV/Å"] < 0.5 * rows["before"]["forces, meV/Å"]
    assert found["findings"] == []


def test_the_errors_are_those_of_the_new_model_on_the_others(softening, labelled):
    found, out = softening
    unseen = [atoms for number, atoms in enumerate(labelled) if number != 5]
    reference = np.concatenate([atoms.arrays["REF_forces"] for atoms in unseen])
    forces = np.concatenate(
        [own for _, own in calculated(calculator_of(out / "softened.ckpt"), unseen)]
    )
    row = rows_of(found, OTHERS, "model")["after"]
    rmse = 1e3 * np.sqrt(np.mean((forces - reference) ** 2))
    assert row["forces, meV/Å"] == pytest.approx(rmse, rel=1e-3)
    slope = np.sum(forces * reference) / np.sum(reference**2)
    assert row["force slope"] == pytest.approx(slope, rel=1e-4)


def test_the_structure_is_on_the_models_level_of_theory(softening, foundation, labelled):
    found, out = softening
    one = read(out / "structure.xyz")
    energies = [energy for energy, _ in calculated(calculator_of(foundation), labelled)]
    gaps = [atoms.info["REF_energy"] - own for atoms, own in zip(labelled, energies, strict=True)]
    expected = labelled[5].info["REF_energy"] - np.mean(gaps)
    assert one.info["REF_energy"] == pytest.approx(expected, abs=1e-3)
    names = ["softened.ckpt", "structure.xyz", "parity.png", "output.txt"]
    assert found["written"] == [str(out / name) for name in names]


def test_a_checkpoint_can_be_trained_and_nothing_is_overwritten(
    tmp_path, data, foundation_checkpoint
):
    flags = ("--lr=0", "--epochs=1", f"--out={tmp_path / 'out'}")
    found = result_of("soften", foundation_checkpoint, data, *flags)
    rows = rows_of(found, list(found["tables"])[1], "model")
    for name, value in rows["before"].items():
        assert name == "model" or rows["after"][name] == pytest.approx(value, rel=1e-3)
    assert found["status"] == 1
    assert "not closer to 1" in found["findings"][0]["problem"]
    again = mace_weak("soften", foundation_checkpoint, data, *flags)
    assert again.returncode == 2
    assert "is in use" in again.stderr


def test_compiled_models_are_refused():
    with pytest.raises(WeakLossError, match=r"is compiled .* take the package"):
        require_trainable("model.nequip.pt2", None)
