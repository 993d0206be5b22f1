"""``mace-weak evaluate`` and ``check`` with nequip's models, and the training that it proposes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from commands import run_command
from console import mace_weak, proposed_words, result_of, rows_of
from datafiles import CONFIGURATIONS
from nequip.data.ase import from_ase
from nequip.integrations.ase import NequIPCalculator
from predictions import calculated, relabelled

from mace_weak.command.propose import Subject, override, training_command
from mace_weak.command.survey import survey
from mace_weak.structures import Keys


def test_the_errors_are_those_of_nequips_calculator(
    tmp_path, files, foundation, foundation_checkpoint
):
    found = result_of(
        "evaluate", foundation_checkpoint, files.ethanol_forces, f"--before={foundation}",
        f"--out={tmp_path}", "--probes=2", "--steps=20",
    )  # fmt: skip
    calculator = NequIPCalculator._from_saved_model(
        foundation, chemical_species_to_atom_type_map=True
    )
    frames = read(files.ethanol_forces, ":")
    force = [
        own - atoms.arrays["REF_forces"]
        for (_, own), atoms in zip(calculated(calculator, frames), frames, strict=True)
    ]
    expected = pytest.approx(1e3 * np.sqrt(np.mean(np.square(force))), rel=1e-4)
    rows = [row for row in found["tables"]["Forces, meV/Å"] if row["of"] == "all"]
    assert [row["RMSE"] for row in rows] == [expected, expected]
    residuals = rows_of(found, "Taylor residuals, meV/atom", "of")
    assert residuals["difference of both"]["0.1 Å"] < 1e-2 * residuals["model"]["0.1 Å"]


def test_a_precision_is_refused(tmp_path, files, foundation):
    done = mace_weak(
        "evaluate", foundation, files.ethanol_forces, "--dtype=float32", f"--out={tmp_path}"
    )
    assert done.returncode == 2
    assert "leave out --dtype" in done.stderr


@dataclass(frozen=True)
class Proposed:
    """What ``mace-weak check`` found, and the words of the training that it proposes."""

    found: dict
    words: list[str]

    def metrics(self, folder) -> str:
        """The names of what a short training by it measures."""
        shrunk = [override("hydra.run.dir", folder), "trainer.max_epochs=1"]
        done = run_command(*self.words, *shrunk)
        assert done.returncode == 0, done.stderr[-3000:]
        (metrics,) = folder.rglob("metrics.csv")
        return metrics.read_text().splitlines()[0]


def proposed(*arguments) -> Proposed:
    found = result_of("check", *arguments)
    words = proposed_words(found)
    assert words[0] == "nequip-train"
    return Proposed(found, words)


def test_the_proposed_training_has_no_anchor_that_knows_nothing(tmp_path, files, foundation):
    checked = proposed(files.ethanol, "--foundation", foundation)
    # the tests' foundation knows nothing of ethanol
    assert "it disagrees with your labels" in str(checked.found["findings"])
    assert "weak_taylor" not in checked.metrics(tmp_path)
    # the shifts move the foundation's energies to those of the labels
    tables = checked.found["tables"]
    table = next(rows for name, rows in tables.items() if name.startswith("Energies of"))
    shift = {row["element"]: row["shift to these labels"] for row in table}
    left = rows_of(checked.found, "Energies beyond the atoms, RMS", "after")
    assert 2 * shift["C"] + 6 * shift["H"] + shift["O"] < -1000  # all electrons, eV
    assert left["foundation, atoms shifted"]["meV/atom"] < 1000


def test_the_proposed_training_is_anchored_on_a_checkpoint(tmp_path, files, foundation_checkpoint):
    """With energies under a key and validation structures of the user's."""
    frames = read(files.molecules, ":")
    train, valid = (
        relabelled(tmp_path / f"{name}.xyz", own, foundation_checkpoint, energy_key="my_energy")
        for name, own in (("train", frames[5:]), ("valid", frames[:5]))
    )
    checked = proposed(
        train, "--valid", valid, "--energy-key=my_energy", "--foundation", foundation_checkpoint
    )
    assert f"+data.val_file_path={valid}" in checked.words
    note = checked.found["notes"][0]
    assert f"mace-weak finetune {foundation_checkpoint} {train} --energy-key=my_energy" in note
    assert "weak_taylor" in checked.metrics(tmp_path / "run")


def test_the_proposed_training_runs_whatever_the_folders_are_called(tmp_path, files, foundation):
    """Signs that have a meaning for Hydra, and letters outside ASCII."""
    folder = tmp_path / "Jürgen's [data], x=1 {2}"
    folder.mkdir()
    train, model = folder / "train (1).xyz", folder / "model 1.nequip.zip"
    train.write_bytes(files.ethanol.read_bytes())
    model.write_bytes(foundation.read_bytes())
    checked = proposed(train, "--valid", train, "--foundation", model)
    assert "per_atom_energy_mse" in checked.metrics(folder / "run")


def test_the_labels_of_the_keys_are_read_beside_ases_own(tmp_path, files, foundation):
    """As the configuration and the proposed call say; nequip by itself prefers ASE's."""
    frames = read(files.ethanol_forces, ":")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(
            atoms, energy=atoms.info["REF_energy"] - 85.0, forces=np.ones((len(atoms), 3))
        )
    write(tmp_path / "both.xyz", frames)
    (atoms,) = read(tmp_path / "both.xyz", ":1")
    config = yaml.safe_load((CONFIGURATIONS / "nequip_finetune.yaml").read_text())["data"]
    mapping, excluded = config["key_mapping"], config["exclude_keys"]
    data = from_ase(atoms, {**mapping, "REF_forces": "forces"}, exclude_keys=excluded)
    assert data["total_energy"].item() == pytest.approx(atoms.info["REF_energy"])
    np.testing.assert_allclose(data["forces"], atoms.arrays["REF_forces"])
    keys = ("--energy-key=energy", "--forces-key=forces", "--foundation", foundation)
    flags = proposed(tmp_path / "both.xyz", *keys).words
    assert "data.exclude_keys=[energies, free_energy, stress]" in flags
    found = result_of("check", tmp_path / "both.xyz", "--foundation", foundation)
    assert any("nequip takes ASE's" in finding["problem"] for finding in found["findings"])


def test_the_proposed_training_sees_the_forces_that_there_are(tmp_path, files, foundation):
    names = proposed(files.ethanol_forces, "--foundation", foundation).metrics(tmp_path)
    assert "forces_mse" in names
    assert "weak_taylor" not in names


def test_isolated_atoms_give_the_shifts(tmp_path, files, foundation):
    atoms = {"C": -1027.0, "H": -13.6, "O": -2036.0}
    isolated = [
        Atoms(symbol, info={"config_type": "IsolatedAtom", "REF_energy": energy})
        for symbol, energy in atoms.items()
    ]
    write(tmp_path / "train.xyz", [*isolated, *read(files.ethanol, ":")])
    words = proposed(tmp_path / "train.xyz", "--foundation", foundation).words
    (shifts,) = (word for word in words if word.startswith("shifts="))
    for symbol, energy in atoms.items():
        assert f"{symbol}: {energy:.6f}" in shifts


@pytest.mark.parametrize("foundation", ["compiled.nequip.pth", "nequip.net:group/model:1.0"])
def test_what_is_no_file_of_a_trainable_model_is_not_proposed_as_a_start(files, foundation):
    subject = Subject(
        train=survey(files.ethanol, Keys()), valid=None, foundation=foundation,
        model=None, comparison=None, keys=Keys(), device="cpu",
    )  # fmt: skip
    command = training_command(subject)
    assert "no compiled model can be trained" in command
    assert "package=PACKAGE" in command
    assert "mace-weak finetune" not in command


def test_a_model_of_nequip_net_is_one_of_nequip(files, tmp_path):
    out = f"--out={tmp_path / 'tuned'}"
    refused = mace_weak("finetune", "nequip.net:group/model:1.0", files.ethanol, out)
    assert refused.returncode == 2
    assert "download the package 'group/model:1.0' from https://www.nequip.net" in refused.stderr


def test_structures_without_an_energy_are_not_proposed_to_nequip(tmp_path, files, foundation):
    """They are no harm in closed form."""
    frames = read(files.ethanol, ":")
    del frames[3].info["REF_energy"]
    write(tmp_path / "train.xyz", frames)
    found = result_of("check", tmp_path / "train.xyz", "--foundation", foundation)
    assert "train_file=LABELLED" in found["notes"][-1]
    assert "nequip stops there" in found["findings"][0]["mend"]
