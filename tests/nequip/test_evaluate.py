"""``mace-weak evaluate`` and ``check`` with nequip's models, and the training that it proposes."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from ase.io import read
from commands import run_command
from console import result_of, rows_of
from nequip.integrations.ase import NequIPCalculator
from predictions import calculated
from readme_commands import ROOT


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


def test_the_proposed_training_trains(tmp_path, files, foundation):
    found = result_of("check", files.ethanol, "--foundation", foundation)
    (note,) = found["notes"]
    words = shlex.split(note.replace("\\\n", ""), comments=True)
    words[words.index("$PWD/recipes/sparse_data")] = str(ROOT / "recipes" / "sparse_data")
    assert words[0] == "nequip-train"
    # the tests' foundation knows nothing of ethanol
    assert "its surface is another one" in str(found["findings"])
    assert "training_module.loss.weak_anchor=none" in words
    shrunk = [f"hydra.run.dir={tmp_path}", "trainer.max_epochs=1"]
    done = run_command(*words, *shrunk)
    assert done.returncode == 0, done.stderr[-3000:]
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "weak_taylor" in metrics.read_text().splitlines()[0]
    # the shifts move the foundation's energies to those of the labels
    table = next(rows for name, rows in found["tables"].items() if name.startswith("Energies of"))
    shift = {row["element"]: row["shift to these labels"] for row in table}
    left = rows_of(found, "What is left of the energies", "after")
    assert 2 * shift["C"] + 6 * shift["H"] + shift["O"] < -1000  # all electrons, eV
    assert left["foundation, atoms shifted"]["meV/atom"] < 1000
