"""``mace-weak finetune`` with MACE's models."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from ase.units import Hartree
from console import COMMAND, mace_weak, result_of, rows_of
from datafiles import QUICKSTART, RECIPES
from finetuning import FEW_STEPS, killed_when, softer
from mace.calculators import MACECalculator
from predictions import calculated, softened
from training import atomic_energies

from mace_weak.calculator import ErrorBarCalculator
from mace_weak.command.finetune_account import rounded
from mace_weak.command.models import load_model, run_trainer
from mace_weak.errors import WeakLossError
from recipes.quickstart import mace_host

ETHANOL = QUICKSTART / "data" / "ethanol_pbe_train.xyz"
CBS = RECIPES / "cbs_energy_only" / "data"
TEST = QUICKSTART / "data" / "ethanol_pbe_test.xyz"
CHOSEN, EXPECTED = "What the evidence chose", "Errors to expect (RMSE)"


@pytest.fixture(scope="session")
def finetuning(foundation, tmp_path_factory):
    """The command on fifty energies of ethanol: what it says, and the model file."""
    out = tmp_path_factory.mktemp("finetune") / "tuned model.model"
    arguments = (f"--out={out}", f"--test={TEST}", FEW_STEPS)
    return result_of("finetune", foundation, ETHANOL, *arguments), out


def test_forces_improve_without_a_force_label(foundation, tmp_path):
    """Of a surface that the tests' foundation knows: its own, and steeper."""
    frames = softened(load_model(str(foundation)).calculator, read(TEST, ":"), slope=0.7)
    train, test, out = (tmp_path / name for name in ("train.xyz", "test.xyz", "tuned.model"))
    write(test, frames[45:])
    for atoms in frames:
        del atoms.arrays["REF_forces"]
    write(train, frames[:45])
    arguments = (f"--out={out}", f"--test={test}", FEW_STEPS)
    found = result_of("finetune", foundation, train, *arguments)
    assert (tmp_path / "tuned.model.work" / "lessons.xyz").is_file()
    rows = {row["model"]: row for row in found["tables"]["Forces, meV/Å"] if row["of"] == "all"}
    assert rows["finetuned"]["RMSE"] < 0.85 * rows["foundation model"]["RMSE"]


def test_the_energies_have_the_zero_of_the_labels(finetuning):
    _, out = finetuning
    frames = read(ETHANOL, ":")
    energies = [energy for energy, _ in calculated(MACECalculator(str(out), device="cpu"), frames)]
    errors = np.array(energies) - [atoms.info["REF_energy"] for atoms in frames]
    assert abs(errors.mean()) < 0.01  # eV


@pytest.mark.slow
def test_coupled_cluster_energies_of_ammonia_give_its_forces(tmp_path):
    """By the quickstart's foundation model after some of its epochs.

    With all of them, plain fine-tuning at its best leaves 228 meV/Å.
    """
    model = mace_host.train_foundation(
        tmp_path, QUICKSTART / "data" / "molecules_gfn1.xyz", epochs=6, device="cpu", threads=1
    )
    frames = read(CBS / "train.xyz", ":50")
    write(tmp_path / "train.xyz", frames)
    test = CBS / "test.xyz"
    arguments = (f"--out={tmp_path / 'tuned.model'}", f"--test={test}", FEW_STEPS)
    found = result_of("finetune", model, tmp_path / "train.xyz", *arguments)
    rows = {row["model"]: row for row in found["tables"]["Forces, meV/Å"] if row["of"] == "all"}
    assert rows["finetuned"]["RMSE"] < 0.6 * 228
    expected_energy, expected_force = (row["value"] for row in found["tables"][EXPECTED])
    assert expected_force == pytest.approx(rows["finetuned"]["RMSE"], rel=0.5)
    energies = rows_of(found, "Energies, meV/atom", "model")["finetuned"]
    assert 0.3 < expected_energy / energies["RMSE about mean"] < 3


def test_the_model_is_an_ordinary_one_of_the_foundations_kind(finetuning, foundation):
    _, out = finetuning
    model = torch.load(out, weights_only=False)
    before = torch.load(foundation, weights_only=False)
    assert type(model) is type(before)
    assert model.atomic_numbers.tolist() == before.atomic_numbers.tolist()
    kinds = [{parameter.dtype for parameter in own.parameters()} for own in (model, before)]
    assert kinds[0] == kinds[1]
    moved = np.array(atomic_energies(model)) - np.array(atomic_energies(before))
    nitrogen = model.atomic_numbers.tolist().index(7)
    assert moved[nitrogen] == 0.0
    assert np.all(np.delete(moved, nitrogen) < -50)  # from GFN1's valence to all electrons


def test_the_file_loads_where_mace_weak_is_not_installed(finetuning, tmp_path):
    _, out = finetuning
    script = (
        "import sys; sys.modules['mace_weak'] = None  # an import of it fails\n"
        "from ase.build import molecule; from mace.calculators import MACECalculator\n"
        f"atoms = molecule('CH3CH2OH'); atoms.calc = MACECalculator({str(out)!r}, device='cpu')\n"
        "print(atoms.get_potential_energy(), abs(atoms.get_forces()).max())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    energy, force = map(float, done.stdout.split()[-2:])
    assert energy == pytest.approx(-4210, abs=5)
    assert force < 5


def test_error_bars_are_compared_with_the_errors(finetuning, tmp_path):
    """Of a foundation trained for a moment, which a linear correction does not suit well."""
    _, out = finetuning
    found = result_of("evaluate", out, TEST, "--steps=0", f"--out={tmp_path}")
    rows = {row["of"]: row for row in found["tables"]["Error bars"]}
    assert rows["forces, meV/Å"]["n"] == 20 * 27
    assert 0.4 < rows["forces, meV/Å"]["RMSE / expected"] < 2.5
    assert 0.4 < rows["energies, meV/atom"]["RMSE / expected"] < 2.5
    assert 0.3 < rows["forces, meV/Å"]["within 1 σ (68 %)"] < 0.95
    assert (tmp_path / "error_bars.png").stat().st_size > 10_000


def test_the_trainer_takes_as_many_steps_as_asked(finetuning):
    _, out = finetuning
    work = out.with_name(f"{out.name}.work")
    log = (work / "training.txt").read_text()
    lessons = len(read(work / "lessons.xyz", ":"))
    assert {int(epoch) for epoch in re.findall(r"Epoch (\d+):", log)} == set(range(10))
    assert f"Batch size: {10 * lessons // 500}" in log


def test_the_command_shows_the_error_bars_of_test_structures(finetuning):
    found, _ = finetuning
    energies, forces = found["tables"]["Error bars"]
    assert (energies["n"], forces["n"]) == (10, 10 * 27)
    assert 0.4 < forces["RMSE / expected"] < 2.5


def test_error_bars_need_no_labels(finetuning, tmp_path):
    _, out = finetuning
    frames = [Atoms(atoms.numbers, atoms.positions) for atoms in read(TEST, ":3")]
    write(tmp_path / "test.xyz", frames)
    page = tmp_path / "page"
    found = result_of("evaluate", out, tmp_path / "test.xyz", "--steps=0", f"--out={page}")
    energies, forces = found["tables"]["Error bars"]
    assert (energies["n"], forces["n"]) == (3, 81)
    assert energies["expected"] > 0
    assert forces["expected"] > 0
    assert energies["RMSE"] is None
    assert not (page / "error_bars.png").exists()


def test_a_calculator_has_the_error_bars(finetuning):
    _, out = finetuning
    calculator, host = ErrorBarCalculator(str(out)), MACECalculator(str(out), device="cpu")
    atoms = read(ETHANOL)
    energy, forces = calculated(host, [atoms])[0]
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-3)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-4)
    assert "forces_uncertainty" not in calculator.results
    near = calculator.get_property("forces_uncertainty", atoms)
    assert near.shape == (9, 3)
    known = calculator.get_property("energy_uncertainty", atoms)
    atoms.positions[8] += 0.4 * (atoms.positions[8] - atoms.positions[2])  # the O-H bond
    assert calculator.get_property("energy_uncertainty", atoms) > 3 * known
    far = calculator.get_property("forces_uncertainty", atoms)
    assert np.linalg.norm(far) > np.linalg.norm(near)
    atoms.info["total_charge"] = 1  # which some models read
    assert calculator.check_state(atoms) == ["info"]
    with pytest.raises(WeakLossError, match="contains Fe, and the model knows only"):
        calculator.get_property("energy_uncertainty", Atoms("Fe2", [[0, 0, 0], [2, 0, 0]]))
    anew = ErrorBarCalculator(str(out)).get_property("forces_uncertainty", atoms)
    np.testing.assert_allclose(far, anew, rtol=1e-6)


def test_error_bars_of_another_model_are_refused(finetuning, foundation, tmp_path):
    _, out = finetuning
    with pytest.raises(WeakLossError, match="error bars are written by mace-weak finetune"):
        ErrorBarCalculator(str(foundation))
    copy = tmp_path / "copy.model"
    shutil.copy(foundation, copy)
    shutil.copy(f"{out}.error_bars.npz", f"{copy}.error_bars.npz")
    with pytest.raises(WeakLossError, match="has the error bars of another model"):
        ErrorBarCalculator(str(copy))


def test_lammps_takes_the_model(finetuning, tmp_path):
    _, out = finetuning
    program = COMMAND.with_name("mace_create_lammps_model")
    copy = tmp_path / "tuned.model"
    copy.write_bytes(out.read_bytes())
    done = subprocess.run([program, copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("*lammps.pt"))


def test_nothing_is_overwritten_without_saying(finetuning, foundation):
    _, out = finetuning
    done = mace_weak("finetune", foundation, ETHANOL, f"--out={out}")
    assert done.returncode == 2
    assert "exists: name another --out, or add --overwrite" in done.stderr


def test_a_killed_run_goes_on_to_the_same_solution(finetuning, foundation, tmp_path):
    found, _ = finetuning
    out = tmp_path / "tuned.model"
    arguments = ("finetune", foundation, ETHANOL, f"--out={out}", f"--test={TEST}", FEW_STEPS)
    work = tmp_path / "tuned.model.work"
    killed_when((work / "solution.npz").is_file, *arguments)
    solved = (work / "solution.npz").stat().st_mtime_ns
    killed_when(lambda: list((work / "checkpoints").glob("*epoch-[2-9].pt")), *arguments)
    assert (work / "solution.npz").stat().st_mtime_ns == solved
    again = result_of(*arguments)
    assert (
        "Loaded" in (work / "training.txt").read_text()
        or "checkpoint" in (work / "training.txt").read_text()
    )
    assert again["tables"][CHOSEN] == found["tables"][CHOSEN]
    force = rows_of(again, "Forces, meV/Å", "model")["finetuned"]["RMSE"]
    whole = rows_of(found, "Forces, meV/Å", "model")["finetuned"]["RMSE"]
    assert force == pytest.approx(whole, rel=0.1)


def test_work_on_other_labels_is_not_gone_on_with(foundation, tmp_path):
    out, train = tmp_path / "tuned.model", tmp_path / "train.xyz"
    frames = read(ETHANOL, ":12")
    write(train, frames)
    arguments = ("finetune", foundation, train, f"--out={out}")
    killed_when((tmp_path / "tuned.model.work" / "solution.npz").is_file, *arguments)
    done = mace_weak(*arguments, FEW_STEPS)
    assert done.returncode == 2
    assert "another number of steps: add --overwrite" in done.stderr
    write(train, frames[:10])
    done = mace_weak(*arguments)
    assert done.returncode == 2
    assert "another training file: add --overwrite" in done.stderr


def test_a_folder_of_somebody_elses_is_left_alone(foundation, tmp_path):
    work = tmp_path / "tuned.model.work"
    work.mkdir()
    (work / "thesis.tex").touch()
    out = tmp_path / "tuned.model"
    done = mace_weak("finetune", foundation, ETHANOL, f"--out={out}", "--overwrite")
    assert done.returncode == 2
    assert "was not made by mace-weak finetune" in done.stderr
    assert (work / "thesis.tex").exists()


def test_data_that_are_wrong_are_told_and_nothing_is_kept(foundation, tmp_path):
    frames = read(ETHANOL, ":20")
    for atoms in frames:
        atoms.info["REF_energy"] /= Hartree
    train, out = tmp_path / "train.xyz", tmp_path / "tuned.model"
    write(train, frames)
    found = result_of("finetune", foundation, train, f"--out={out}")
    assert any(finding["wrong"] and "to eV" in finding["mend"] for finding in found["findings"])
    assert "Nothing was trained" in found["notes"][0]
    assert not out.exists()
    assert [path.name for path in out.with_name("tuned.model.work").iterdir()] == ["lock"]


def test_two_processes_do_not_work_on_one_model(foundation, tmp_path):
    work = tmp_path / "tuned.model.work"
    work.mkdir()
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = mace_weak("finetune", foundation, ETHANOL, f"--out={tmp_path / 'tuned.model'}")
    assert done.returncode == 2
    assert "another process works in" in done.stderr


def test_one_structure_with_forces_beside_energies_counts(foundation, tmp_path):
    frames = read(ETHANOL, ":49") + read(TEST, ":1")
    test = tmp_path / "test.xyz"
    write(tmp_path / "train.xyz", frames)
    write(test, read(TEST, "1:"))
    found = result_of(
        "finetune", foundation, tmp_path / "train.xyz", f"--out={tmp_path / 'tuned.model'}",
        f"--test={test}", FEW_STEPS,
    )  # fmt: skip
    meanings = {row["meaning"]: row["value"] for row in found["tables"][CHOSEN]}
    assert meanings["components of forces"] == 27
    rows = {row["model"]: row for row in found["tables"]["Forces, meV/Å"] if row["of"] == "all"}
    assert rows["finetuned"]["RMSE"] < 0.85 * rows["foundation model"]["RMSE"]


def test_one_structure_with_forces_corrects_the_others(foundation, tmp_path):
    """That of highest energy. What it says nothing of is a finding."""
    frames = read(TEST, ":")
    highest = max(frames, key=lambda atoms: atoms.info["REF_energy"])
    write(tmp_path / "train.xyz", highest)
    write(tmp_path / "test.xyz", [atoms for atoms in frames if atoms is not highest])
    found = result_of(
        "finetune", foundation, tmp_path / "train.xyz", f"--out={tmp_path / 'tuned.model'}",
        f"--test={tmp_path / 'test.xyz'}",
    )  # fmt: skip
    assert any("few labelled structures (1)" in one["problem"] for one in found["findings"])
    rows = {row["model"]: row for row in found["tables"]["Forces, meV/Å"] if row["of"] == "all"}
    assert rows["finetuned"]["RMSE"] < 0.85 * rows["foundation model"]["RMSE"]


def test_labels_that_leave_the_forces_open_are_trained_on_by_the_anchored_loss(
    foundation, tmp_path
):
    write(tmp_path / "train.xyz", read(ETHANOL, ":4"))  # of 3, some draws hardly change the forces
    out = tmp_path / "tuned.model"
    arguments = (f"--out={out}", "--steps=20")
    found = result_of("finetune", foundation, tmp_path / "train.xyz", *arguments)
    (finding,) = found["findings"]
    assert "anchored loss (weak_taylor) instead" in finding["problem"]
    assert found["written"] == [str(out)]  # no error bars
    log = (tmp_path / "tuned.model.work" / "training.txt").read_text()
    assert "weak_taylor, weights relative to the energy term" in log
    assert np.array(atomic_energies(torch.load(out, weights_only=False)))[0] < -50


def test_a_foundation_model_of_another_surface_is_trained_plainly(foundation, tmp_path):
    """Its energies follow the labels, at another scale."""
    train = softer(tmp_path / "train.xyz", foundation)
    out = tmp_path / "tuned.model"
    found = result_of("finetune", foundation, train, f"--out={out}", "--steps=20")
    assert "it disagrees with your labels" in found["findings"][-1]["problem"]
    assert "trained without an anchor instead" in found["findings"][-1]["problem"]
    log = (tmp_path / "tuned.model.work" / "training.txt").read_text()
    assert "WeightedEnergyForcesLoss" in log
    assert "Weak losses" not in log


def test_a_foundation_model_that_energies_do_not_follow_stays_the_anchor(foundation, tmp_path):
    """As those of one with large errors do: nothing says that a training without it is better."""
    frames = read(ETHANOL, ":12")
    for atoms, other in zip(frames, frames[7:] + frames[:7], strict=True):
        atoms.info["other_energy"] = other.info["REF_energy"]
    train, out = tmp_path / "train.xyz", tmp_path / "tuned.model"
    write(train, frames)
    arguments = (f"--out={out}", "--steps=20", "--energy-key=other_energy")
    found = result_of("finetune", foundation, train, *arguments)
    (problem,) = (one["problem"] for one in found["findings"] if "trained" in one["problem"])
    assert "it disagrees with your labels" in problem
    assert "anchored loss (weak_taylor) instead" in problem
    log = (tmp_path / "tuned.model.work" / "training.txt").read_text()
    assert "weak_taylor, weights relative to the energy term" in log


def test_the_named_head_of_a_model_with_several_is_finetuned(two_heads, files, tmp_path):
    out = tmp_path / "tuned.model"
    arguments = ("finetune", two_heads, files.ethanols, f"--out={out}", "--steps=20")
    done = mace_weak(*arguments)
    assert done.returncode == 2
    assert "name the one to fine-tune by --head" in done.stderr
    result_of(*arguments, "--head=Default")
    model = torch.load(out, weights_only=False)
    assert list(model.heads) == ["Default"]
    calculator = MACECalculator(str(out), device="cpu")
    for energy, _ in calculated(calculator, read(ETHANOL, ":2")):
        assert energy == pytest.approx(-4210, abs=5)


BAD = {
    "nan energy": (
        lambda atoms: atoms.info.update(REF_energy=np.nan),
        r"bad.xyz', structure 3 \(counted from 0\): its energy .* is NaN or infinite",
    ),
    "nan position": (
        lambda atoms: atoms.positions.__setitem__((0, 0), np.nan),
        r"bad.xyz', structure 3 \(counted from 0\): a position is NaN",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_is_refused_by_file_and_frame(foundation, tmp_path, kind):
    spoil, message = BAD[kind]
    frames = read(ETHANOL, ":20")
    spoil(frames[3])
    path, out = tmp_path / "bad.xyz", tmp_path / "tuned.model"
    write(path, frames)
    done = mace_weak("finetune", foundation, path, f"--out={out}", "--json")
    said = done.stderr + "".join(
        finding["problem"]
        for finding in (json.loads(done.stdout)["findings"] if done.stdout else [])
    )
    assert re.search(message, said), said[-2000:]
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--energy-key=absent",), "no structure of"),
        (("--head=absent",), "has no head absent: its heads are Default"),
        (("--out=/proc/absent/tuned.model",), "cannot be written"),
        (("--device=absent",), "torch cannot compute there"),
        (("--out=tuned.ckpt",), "ends as a model of nequip, and this one is of mace-torch"),
        (("--test={atoms}",), "has only isolated atoms"),
    ],
)
def test_bad_use_ends_with_one_line(foundation, tmp_path, flags, message):
    out, atoms = f"--out={tmp_path / 'tuned.model'}", tmp_path / "atoms.xyz"
    write(atoms, Atoms("O", info={"config_type": "IsolatedAtom", "REF_energy": -2036.0}))
    flags = [flag.format(atoms=atoms) for flag in flags]
    done = mace_weak("finetune", foundation, ETHANOL, out, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_cells_of_one_atom_are_refused(foundation, tmp_path):
    """They have no forces to learn."""
    cells = [bulk("C", "sc", a=1.5 + 0.05 * number) for number in range(8)]
    for number, atoms in enumerate(cells):
        atoms.info["REF_energy"] = -8.0 + 0.1 * (number - 3) ** 2
    write(tmp_path / "cells.xyz", cells)
    done = mace_weak("finetune", foundation, tmp_path / "cells.xyz", f"--out={tmp_path}/a.model")
    assert done.returncode == 2
    assert "no structure has forces to learn, as in cells of one atom" in done.stderr


def test_total_energies_that_the_model_rounds_are_told(tmp_path):
    """Of all electrons of bromine, say."""
    frames = read(ETHANOL, ":3")
    energies = np.array([atoms.info["REF_energy"] for atoms in frames])
    account = SimpleNamespace(energy_error=1e-4)
    assert list(rounded(frames, energies, account)) == []
    (finding,) = rounded(frames, energies - 70_000.0, account)
    assert "rounds these total energies by 0.87 meV/atom" in finding.problem


def test_a_host_that_fails_is_told_with_its_last_line(tmp_path):
    output, epochs = tmp_path / "output.txt", {"epochs": 1, "epoch": re.compile(r"Epoch (\d+)")}
    with pytest.raises(WeakLossError, match=f"python failed .out of memory.: see {output}"):
        run_trainer("python", ["-c", "print('starting'); exit('out of memory')"], output, **epochs)
    assert output.read_text() == "starting\nout of memory\n"
    with pytest.raises(WeakLossError, match=r"there is no .*train_nothing"):
        run_trainer("train_nothing", [], output, **epochs)
