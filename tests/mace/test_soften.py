"""``mace-weak soften`` with MACE's models."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io import read, write
from console import mace_weak, result_of, rows_of
from mace.calculators import MACECalculator
from predictions import calculated, softened
from training import atomic_energies

from mace_weak.command.hosts import run_trainer
from mace_weak.errors import WeakLossError

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
    flags = ("--index=5", "--lr=0.01", "--epochs=30", f"--out={out}")
    return result_of("soften", foundation, data, *flags), out


def calculator_of(model):
    return MACECalculator(str(model), device="cpu")


def test_the_errors_are_those_of_both_models_on_the_others(softening, foundation, labelled):
    found, out = softening
    rows = rows_of(found, OTHERS, "model")
    unseen = [atoms for number, atoms in enumerate(labelled) if number != 5]
    reference = np.concatenate([atoms.arrays["REF_forces"] for atoms in unseen])
    for name, model in (("before", foundation), ("after", out / "softened.model")):
        results = calculated(calculator_of(model), unseen)
        forces = np.concatenate([result[1] for result in results])
        rmse = 1e3 * np.sqrt(np.mean((forces - reference) ** 2))
        assert rows[name]["forces, meV/Å"] == pytest.approx(rmse, rel=1e-4)
        slope = np.sum(forces * reference) / np.sum(reference**2)
        assert rows[name]["force slope"] == pytest.approx(slope, rel=1e-4)
        errors = [
            1e3 * (result[0] - atoms.info["REF_energy"]) / len(atoms)
            for result, atoms in zip(results, unseen, strict=True)
        ]
        energy = rows[name]["energy after its zero, meV/atom"]
        assert energy == pytest.approx(np.std(errors), rel=1e-3)


def test_one_structure_mends_the_forces_of_the_others(softening):
    found, _ = softening
    for title in (TRAINED, OTHERS):
        rows = rows_of(found, title, "model")
        assert rows["before"]["force slope"] == pytest.approx(SOFT, abs=1e-4)
        assert rows["after"]["force slope"] == pytest.approx(1.0, abs=0.02)
        assert rows["after"]["forces, meV/Å"] < 0.3 * rows["before"]["forces, meV/Å"]
    assert rows["before"]["±"] < 1e-4 < rows["after"]["±"] < 0.02
    assert found["findings"] == []
    assert found["status"] == 0


def test_the_structure_is_on_the_models_level_of_theory(softening, foundation, labelled):
    _, out = softening
    energies = np.array([energy for energy, _ in calculated(calculator_of(foundation), labelled)])
    gaps = np.array([atoms.info["REF_energy"] for atoms in labelled]) - energies
    assert np.abs(gaps).min() > 1000
    one = read(out / "structure.xyz")
    assert one.info["REF_energy"] == pytest.approx(labelled[5].info["REF_energy"] - gaps.mean())
    assert one.arrays["REF_forces"] == pytest.approx(labelled[5].arrays["REF_forces"], abs=1e-7)
    (again,) = calculated(calculator_of(out / "softened.model"), [one])
    assert again[0] == pytest.approx(one.info["REF_energy"], abs=0.02)


def test_the_model_keeps_its_elements_and_their_energies(softening, foundation):
    _, out = softening
    old, new = (
        MACECalculator(str(path), device="cpu") for path in (foundation, out / "softened.model")
    )
    assert old.z_table.zs == new.z_table.zs == [1, 6, 7, 8]
    assert atomic_energies(old.models[0]) == pytest.approx(atomic_energies(new.models[0]))


def test_all_that_was_written_is_told(softening):
    found, out = softening
    names = ["softened.model", "structure.xyz", "parity.png", "output.txt"]
    assert found["written"] == [str(out / name) for name in names]
    assert (out / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_is_never_overwritten(softening, foundation, data):
    _, out = softening
    before = (out / "softened.model").read_bytes()
    done = mace_weak("soften", foundation, data, f"--out={out}")
    assert done.returncode == 2
    assert "is in use: give a new folder by --out" in done.stderr
    assert (out / "softened.model").read_bytes() == before


def test_training_that_changes_nothing_is_a_finding(tmp_path, files, copper_foundation):
    """On periodic cells of one element; the structure of the highest energy is taken."""
    frames = read(files.copper, ":")
    highest = int(np.argmax([atoms.info["REF_energy"] for atoms in frames]))
    found = result_of(
        "soften", copper_foundation, files.copper, f"--out={tmp_path / 'out'}",
        "--lr=0", "--epochs=1",
    )  # fmt: skip
    trained, others = found["tables"]
    assert trained == f"Structure {highest}, Cu4, trained on"
    rows = rows_of(found, others, "model")
    for name, value in rows["before"].items():
        assert name == "model" or rows["after"][name] == pytest.approx(value, rel=1e-4)
    assert found["status"] == 1
    assert "not closer to 1" in found["findings"][0]["problem"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--energy-key=nothing"], "has 0 structures with 'nothing' and 'REF_forces'"),
        (["--index=12"], "has no structure 12"),
    ],
)
def test_missing_labels_are_bad_use(tmp_path, data, foundation, flags, expected):
    out = tmp_path / "out"
    done = mace_weak("soften", foundation, data, f"--out={out}", *flags)
    assert done.returncode == 2
    assert expected in done.stderr
    assert not out.exists()


def test_a_host_that_fails_is_told_with_its_last_line(tmp_path):
    output = tmp_path / "output.txt"
    with pytest.raises(WeakLossError, match=f"python failed .out of memory.: see {output}"):
        run_trainer("python", ["-c", "print('starting'); exit('out of memory')"], output)
    assert output.read_text() == "starting\nout of memory\n"
    with pytest.raises(WeakLossError, match=r"there is no .*train_nothing"):
        run_trainer("train_nothing", [], output)
