"""``mace-weak finetune`` with NequIP's models."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from console import mace_weak, result_of
from datafiles import QUICKSTART, RECIPES
from finetuning import FEW_STEPS, killed_when, softer
from predictions import calculated
from roads import Start
from stock import BUILD, ENERGY_OF, energy_in, stock, without_mace_weak
from training import changed, train

from mace_weak.calculator import ErrorBarCalculator
from mace_weak.command.finetune_files import LABELS, read_training, write_labels
from mace_weak.command.models import load_model, run_trainer
from mace_weak.nequip import finetuning as host
from mace_weak.structures import Keys
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.teaching import Schedule, Task

__all__ = ["without_mace_weak"]  # a fixture

CBS = RECIPES / "cbs_energy_only" / "data"
TEST = CBS / "test.xyz"
CHOSEN = "What the evidence chose"


@pytest.fixture(scope="session")
def ammonia(tmp_path_factory):
    """Fifty coupled-cluster energies."""
    path = tmp_path_factory.mktemp("ammonia") / "train ü=[1],2.xyz"  # Hydra's own signs
    write(path, read(CBS / "train.xyz", ":50"))
    return path


@pytest.fixture(scope="session")
def finetuning(foundation, ammonia):
    """The command on them: what it says, and the checkpoint, whose name it completes."""
    out = ammonia.with_name("tuned model")
    arguments = (f"--out={out}", f"--test={TEST}", FEW_STEPS)
    found = result_of("finetune", foundation, ammonia, *arguments)
    return found, out.with_name("tuned model.ckpt")


def forces(found) -> dict[str, float]:
    rows = found["tables"]["Forces, meV/Å"]
    return {row["model"]: row["RMSE"] for row in rows if row["of"] == "all"}


def test_forces_improve_without_a_force_label(finetuning):
    found, _ = finetuning
    errors = forces(found)
    assert errors["finetuned"] < 0.6 * errors["foundation model"]


def test_error_bars_are_compared_with_the_errors(finetuning, tmp_path):
    _, out = finetuning
    found = result_of("evaluate", out, TEST, "--steps=0", f"--out={tmp_path}")
    rows = {row["of"]: row for row in found["tables"]["Error bars"]}
    assert 0.4 < rows["forces, meV/Å"]["RMSE / expected"] < 2.5
    atoms = read(TEST)
    calculator = ErrorBarCalculator(str(out))
    spread = calculator.get_property("forces_uncertainty", atoms)
    assert spread.shape == (4, 3)
    assert np.all(spread > 0)
    atoms.positions[0] += 0.1
    moved = calculator.get_property("forces_uncertainty", atoms)
    assert np.linalg.norm(moved - spread) > 0.01 * np.linalg.norm(spread)
    anew = ErrorBarCalculator(str(out)).get_property("forces_uncertainty", atoms)
    np.testing.assert_allclose(moved, anew, rtol=1e-6)


def test_the_energies_have_the_zero_of_the_labels(finetuning, ammonia, foundation):
    _, out = finetuning
    frames = read(ammonia, ":")
    tuned, before = load_model(str(out)), load_model(str(foundation))
    energies = [energy for energy, _ in calculated(tuned.calculator, frames)]
    errors = np.array(energies) - [atoms.info["REF_energy"] for atoms in frames]
    assert abs(errors.mean()) < 0.01  # eV
    assert tuned.elements == before.elements
    assert tuned.dtype == before.dtype
    assert tuned.atomic_energies["O"] == pytest.approx(before.atomic_energies["O"])
    assert tuned.atomic_energies["N"] < before.atomic_energies["N"] - 50


def test_the_checkpoint_loads_and_is_packaged_where_mace_weak_is_not_installed(
    finetuning, tmp_path, without_mace_weak
):
    _, out = finetuning
    ((expected, _),) = calculated(load_model(str(out)).calculator, [read(TEST)])
    loaded = stock(without_mace_weak, tmp_path, "-c", ENERGY_OF, out, TEST)
    package = tmp_path / "tuned.nequip.zip"
    stock(without_mace_weak, tmp_path, "-c", BUILD, "build", out, package)
    packaged = stock(without_mace_weak, tmp_path, "-c", ENERGY_OF, package, TEST)
    assert energy_in(loaded) == pytest.approx(expected, abs=1e-3)
    assert energy_in(packaged) == pytest.approx(expected, abs=1e-3)


def test_a_killed_run_goes_on_to_the_same_solution(finetuning, foundation, ammonia, tmp_path):
    found, _ = finetuning
    out = tmp_path / "tuned.ckpt"
    work = tmp_path / "tuned.ckpt.work"
    arguments = ("finetune", foundation, ammonia, f"--out={out}", f"--test={TEST}", FEW_STEPS)
    killed_when((work / "restart.ckpt").is_file, *arguments)
    solved = (work / "solution.npz").stat().st_mtime_ns
    again = result_of(*arguments)
    assert (work / "solution.npz").stat().st_mtime_ns == solved
    assert "Continuing training" in (work / "training.txt").read_text()
    assert again["tables"][CHOSEN] == found["tables"][CHOSEN]
    assert forces(again)["finetuned"] == pytest.approx(forces(found)["finetuned"], rel=0.1)


def test_labels_that_leave_the_forces_open_are_trained_on_by_the_anchored_loss(
    foundation, tmp_path
):
    write(tmp_path / "train.xyz", read(QUICKSTART / "data" / "ethanol_pbe_train.xyz", ":4"))
    out = tmp_path / "tuned.ckpt"
    arguments = (f"--out={out}", "--steps=20")
    found = result_of("finetune", foundation, tmp_path / "train.xyz", *arguments)
    assert any("anchored loss (weak_taylor) instead" in one["problem"] for one in found["findings"])
    log = (tmp_path / "tuned.ckpt.work" / "training.txt").read_text()
    assert "weak_taylor, weights relative to the energy term" in log
    assert load_model(str(out)).atomic_energies["C"] < -50


def test_forces_of_some_structures_are_learned_by_the_anchored_loss_too(foundation, tmp_path):
    """nequip takes NaN for those that are missing, and for an energy."""
    frames = read(TEST, ":6")
    for atoms in frames[1:]:
        del atoms.arrays["REF_forces"]
    frames.append(read(TEST, "6"))
    del frames[6].info["REF_energy"]
    write(tmp_path / "train.xyz", frames)
    structures = read_training(tmp_path / "train.xyz", Keys())
    assert structures.n_labelled == 7
    nothing = Labels(np.tile([3, 0, 1, 0], (7, 1)), np.zeros(7), [None] * 7)
    assert write_labels(tmp_path, structures, labels=nothing, missing_as_nan=host.MISSING_AS_NAN)
    file = tmp_path / LABELS
    assert np.isnan(read(file, "6").info["REF_energy"])
    task = Task(
        foundation=foundation, folder=tmp_path, train=file, valid=file, forces=True,
        schedule=Schedule(epochs=2, batch_size=2, lr=0.01), device="cpu", seed=1,
    )  # fmt: skip
    saved = load_model(str(foundation))
    arguments = host.arguments_on_labels(saved, task, anchored=True)
    run_trainer(host.COMMAND, arguments, tmp_path / "training.txt", epochs=2, epoch=host.EPOCH)
    assert (tmp_path / host.PRODUCT).is_file()


def test_other_properties_in_a_file_are_left_out(foundation):
    """As a dipole moment, which nequip takes for a property of each atom."""
    atoms = read(TEST)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, dipole=np.zeros(3))
    (graph,) = host.graphs_of(load_model(str(foundation)), [atoms])
    assert len(graph["pos"]) == len(atoms)


def test_a_foundation_model_of_another_surface_is_trained_plainly(foundation, tmp_path):
    """Its energies follow the labels, at another scale."""
    train = softer(tmp_path / "train.xyz", foundation)
    out = tmp_path / "tuned.ckpt"
    found = result_of("finetune", foundation, train, f"--out={out}", "--steps=20")
    assert "trained without an anchor instead" in found["findings"][-1]["problem"]
    log = (tmp_path / "tuned.ckpt.work" / "training.txt").read_text()
    assert "no anchor" in log


def test_a_checkpoint_is_a_foundation_model_too(foundation_checkpoint, ammonia, tmp_path):
    out = tmp_path / "tuned.ckpt"
    arguments = (f"--out={out}", f"--test={TEST}", FEW_STEPS)
    found = result_of("finetune", foundation_checkpoint, ammonia, *arguments)
    errors = forces(found)
    assert errors["finetuned"] < 0.6 * errors["foundation model"]


@pytest.mark.skipif(find_spec("allegro") is None, reason="nequip-allegro is not installed")
def test_a_model_of_allegro_is_finetuned(files, ammonia, tmp_path):
    config = Start(files, tmp_path, tmp_path).allegro()
    without = train(tmp_path / "without", changed(config, trainer__max_epochs=1))
    out = tmp_path / "tuned.ckpt"
    done = mace_weak("finetune", without.checkpoint, ammonia, f"--out={out}")
    assert done.returncode == 2
    assert "has no energies of the atoms" in done.stderr
    by_type = {"H": -13.6, "C": -37.8, "N": -54.6, "O": -75.1}
    energies = {"training_module__model__per_type_energy_shifts": by_type}
    config = changed(config, trainer__max_epochs=10, **energies)
    trained = train(tmp_path / "allegro", config)
    arguments = (f"--out={out}", f"--test={TEST}", FEW_STEPS, "--overwrite")
    found = result_of("finetune", trained.checkpoint, ammonia, *arguments)
    errors = forces(found)
    assert errors["finetuned"] < 0.8 * errors["foundation model"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--head=Default",), "nequip's models have no heads"),
        (("--out=/proc/absent/tuned.ckpt",), "cannot be written"),
        (("--out=tuned.pt2",), "does not end in .ckpt"),
    ],
)
def test_bad_use_ends_with_one_line(foundation, ammonia, tmp_path, flags, message):
    done = mace_weak("finetune", foundation, ammonia, f"--out={tmp_path / 'tuned'}", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
