"""Bad input ends with one line that says what is wrong and how to correct it, before training."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write
from misread_files import FILES, frames, some_stresses, written
from training import FINETUNE, SCRATCH, train

import mace_weak.versions
from mace_weak.errors import WeakLossError
from mace_weak.mace import activation, wrappers

TUNE = ("--loss=weak_taylor", "--foundation_model={foundation}", *FINETUNE)
FRESH = ("--loss=weak_taylor", *SCRATCH)

CASES = {
    "negative weight": (TUNE, ["--weak_taylor_weight=-1"], "weak_taylor_weight must be"),
    "weight no number": (TUNE, ["--weak_taylor_weight=big"], "a number of at least 0, or auto"),
    "far displacement": (TUNE, ["--weak_displacement=2"], "above 0 and up to 0.5, not '2'"),
    "fraction of zero": (TUNE, ["--weak_fraction=0"], "weak_fraction must be"),
    "every half step": (TUNE, ["--weak_every=0.5"], "weak_every must be a whole number"),
    "unknown schedule": (
        TUNE,
        ["--weak_schedule=exp"],
        "constant, linear, cosine, learning_rate",
    ),
    "unknown direction": (TUNE, ["--weak_direction=x"], "gaussian, uniform, adversarial"),
    "unknown base loss": (TUNE, ["--weak_base_loss=dipole"], "one of weighted, huber"),
    "starts after the end": (TUNE, ["--weak_start_epoch=2"], "not before the end of training"),
    "weight of an absent term": (
        TUNE,
        ["--weak_spatial_weight=1"],
        "no effect with weak_taylor: choose weak_spatial",
    ),
    "labels of an absent term": (
        TUNE,
        ["--loss=weak_spatial", "--weak_labels=reference"],
        "weak_labels has no effect with weak_spatial: choose weak_taylor",
    ),
    "weak option, other loss": (
        TUNE,
        ["--loss=weighted", "--weak_every=2"],
        "--weak_every has no effect with --loss=weighted: choose --loss=weak_taylor",
    ),
    "dipoles": (FRESH, ["--model=AtomicDipolesMACE"], "not on --model=AtomicDipolesMACE"),
    "energies of no weight": (TUNE, ["--energy_weight=0"], "makes the weak terms zero"),
    "no forces": (TUNE, ["--compute_forces=False"], "remove --compute_forces=False"),
    "cueq absent": (TUNE, ["--enable_cueq=True"], "needs cuequivariance-torch"),
    "oeq absent": (TUNE, ["--enable_oeq=True"], "needs openequivariance"),
    "line search with every": (TUNE, ["--lbfgs", "--weak_every=2"], "use --weak_fraction"),
    "auto anchor, no foundation": (FRESH, ["--weak_anchor=auto"], "needs a foundation model"),
    "tangent anchor, no foundation": (
        FRESH,
        ["--weak_anchor=tangent"],
        "--weak_anchor=tangent fine-tunes a foundation model",
    ),
    "tangent anchor with an order": (
        TUNE,
        ["--weak_anchor=tangent", "--weak_order=1"],
        "weak_order has no effect with weak_anchor tangent",
    ),
    "order 0, no anchor": (FRESH, ["--weak_order=0"], "would hold the forces at zero"),
    "anchor missing": (FRESH, ["--weak_anchor=no.model"], "there is no file 'no.model'"),
    "anchor truncated": (FRESH, ["--weak_anchor={truncated}"], "cannot be read as a model"),
    "anchor no model": (FRESH, ["--weak_anchor={linear}"], "holds a Linear, not a MACE model"),
    "anchor cutoff": (
        FRESH,
        ["--weak_anchor={foundation}", "--r_max=3.5"],
        "the anchor has the cutoff 4 Å, the training 3.5 Å",
    ),
    "anchor elements": (
        FRESH,
        ["--weak_anchor={foundation}", "--train_file={copper}"],
        "the anchor lacks Cu of the data",
    ),
    "unknown head": (TUNE, ["--weak_heads=other"], "there is no head other; the heads of"),
    "no energies": (
        TUNE,
        ["--energy_key=nowhere"],
        "has an energy under the key 'nowhere': set --energy_key",
    ),
    "forces fitted to zero": (
        TUNE,
        ["--weak_base_loss=l1l2energyforces"],
        "have no forces, which MACE's l1l2energyforces loss would fit to zero",
    ),
    "energies fitted to zero": (
        TUNE,
        ["--weak_base_loss=huber", "--train_file={some}"],
        "1 frames of {some} (head Default) have no energy, which MACE's huber loss would fit",
    ),
    "stress fitted to zero": (
        FRESH,
        ["--weak_base_loss=huber", "--train_file={copper}", "--stress_key=none"],
        "have no stress, which MACE's huber loss would fit to zero",
    ),
    "NaN energy": (TUNE, ["--train_file={nan}"], "structure 2 (counted from 0): its energy"),
    "infinite force": (TUNE, ["--train_file={inf}"], "structure 1 (counted from 0): its forces"),
    "NaN in validation": (TUNE, ["--valid_file={nan}"], "nan.xyz', structure 2"),
    "energy that is none": (TUNE, ["--train_file={word}"], "structure 1 (counted from 0): invalid"),
    "coordinate that is none": (TUNE, ["--train_file={letter}"], "cannot be read from structure 0"),
    "no training file": (TUNE, ["--train_file=none.xyz"], "there is no file 'none.xyz'"),
    "unreadable file": (TUNE, ["--train_file={truncated}"], "cannot be read"),
    "average of some energies": (
        FRESH,
        ["--E0s=average", "--train_file={some}"],
        "1 structures of {some} (head Default) have no energy, of which MACE's --E0s=average",
    ),
    "adversarial, no labels": (
        FRESH,
        ["--weak_direction=adversarial", "--train_file={ethanol}"],
        "needs force labels or an anchor",
    ),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory, files, foundation) -> dict[str, Path]:
    """Paths for the cases: good files, and broken ones."""
    folder = tmp_path_factory.mktemp("broken")
    frames = read(files.ethanol, ":")
    frames[2].info["REF_energy"] = np.nan
    write(folder / "nan.xyz", frames)
    frames = read(files.ethanol_forces, ":")
    frames[1].arrays["REF_forces"][3, 0] = np.inf
    write(folder / "inf.xyz", frames)
    frames = read(files.ethanol_forces, ":")
    del frames[4].info["REF_energy"]
    write(folder / "some.xyz", frames)
    first, second = read(files.ethanol, ":2")
    second.info["REF_energy"] = "None"
    write(folder / "word.xyz", [first, second])
    text = files.ethanol.read_text()
    (folder / "letter.xyz").write_text(re.sub(r"\nC( +)", r"\nC\1x", text, count=1))
    (folder / "truncated.model").write_bytes(foundation.read_bytes()[:5000])
    torch.save(torch.nn.Linear(2, 2), folder / "linear.model")
    return {
        "foundation": foundation,
        "copper": files.copper,
        "ethanol": files.ethanol,
        "nan": folder / "nan.xyz",
        "inf": folder / "inf.xyz",
        "some": folder / "some.xyz",
        "word": folder / "word.xyz",
        "letter": folder / "letter.xyz",
        "truncated": folder / "truncated.model",
        "linear": folder / "linear.model",
    }


def refusal(folder: Path, *flags: str) -> str:
    """The one line with which a training is refused; nothing may have been trained."""
    with pytest.raises(SystemExit) as stop:
        train(folder, *flags)
    assert not list(folder.glob("results/*"))
    assert not list(folder.glob("checkpoints/*"))
    return str(stop.value)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case, tmp_path, broken, files):
    base, extra, message = CASES[case]
    default = files.molecules if base is FRESH else files.ethanol
    flags = [flag.format(**broken) for flag in (*base, *extra)]
    line = refusal(tmp_path, f"--train_file={default}", *flags)
    assert line.startswith("mace-weak: ")
    assert message.format(**broken) in line
    assert "\n" not in line


@pytest.mark.parametrize("name", FILES)
def test_labels_that_mace_would_misread_are_refused(name, tmp_path, foundation):
    _, keys, message = FILES[name]
    flags = [f"--{label}_key={key}" for label, key in keys.items()]
    flags.append("--default_dtype=float32")
    tune = [flag.format(foundation=foundation) for flag in TUNE]
    path = written(tmp_path, name)
    assert message in refusal(tmp_path / "run", f"--train_file={path}", *tune, *flags)


def test_stresses_that_mace_would_take_for_zero_are_refused(tmp_path):
    write(tmp_path / "cells.xyz", some_stresses())
    names = [f"--{label}_key={label}" for label in ("energy", "forces", "stress")]
    line = refusal(
        tmp_path / "run", *FRESH, f"--train_file={tmp_path / 'cells.xyz'}", *names,
        "--weak_base_loss=stress",
    )  # fmt: skip
    assert "5 structures have no stress under ASE's own name 'stress'" in line


def test_zero_forces_are_warned_of(tmp_path, foundation):
    """By symmetry they may be right."""
    own = frames()
    for atoms in own:
        atoms.arrays["REF_forces"][:] = 0.0
    write(tmp_path / "zero.xyz", own)
    tune = [flag.format(foundation=foundation) for flag in TUNE]
    run = train(tmp_path / "run", f"--train_file={tmp_path / 'zero.xyz'}", *tune)
    assert "the forces of all structures are zero" in run.log


def test_an_unknown_loss_lists_the_valid_ones(tmp_path, capsys):
    refusal(tmp_path, "--loss=weak_tailor")
    assert "weak_taylor" in capsys.readouterr().err.split("choose from")[1]


def test_a_foundation_of_another_precision_is_refused_where_mace_estimates(
    tmp_path, files, foundation
):
    """TorchScript stops there otherwise."""
    torch.save(torch.load(foundation, weights_only=False).float(), tmp_path / "single.model")
    flags = [flag.format(foundation=tmp_path / "single.model") for flag in TUNE]
    precision = "--default_dtype=float64"
    line = refusal(tmp_path / "run", f"--train_file={files.ethanol}", *flags, precision)
    assert "is of float32, and MACE cannot estimate the energies of the atoms" in line


def test_an_anchor_with_other_heads_is_refused(tmp_path, broken, files, foundation):
    model = torch.load(foundation, weights_only=False)
    model.heads = ["one", "other"]
    torch.save(model, tmp_path / "heads.model")
    line = refusal(
        tmp_path / "run", *FRESH, f"--train_file={files.molecules}",
        f"--weak_anchor={tmp_path / 'heads.model'}",
    )  # fmt: skip
    assert "the anchor has the heads one, other, but not Default" in line


def test_packed_labels_are_checked(tmp_path, packed, foundation):
    import h5py

    bad = tmp_path / "bad.h5"
    bad.write_bytes((packed / "train.h5").read_bytes())
    with h5py.File(bad, "r+") as file:
        file["config_batch_0/config_3/properties/energy"][()] = np.nan
    line = refusal(
        tmp_path / "run", *TUNE, f"--foundation_model={foundation}", "--E0s=foundation",
        "--atomic_numbers=[1, 6, 8]", f"--train_file={bad}",
        f"--valid_file={packed}/valid.h5",
    )  # fmt: skip
    assert "the energy of structure 3 (counted from 0)" in line


def test_mace_outside_the_supported_range_is_refused(monkeypatch, capsys):
    import mace.tools.arg_parser as stock

    module = type(stock)("mace.tools.arg_parser")
    module.__file__ = stock.__file__
    module.build_default_arg_parser = stock.build_default_arg_parser.__wrapped__
    monkeypatch.setattr(mace_weak.versions, "installed", lambda name: "0.4.0")
    wrappers.wrap_module(module)
    parser = module.build_default_arg_parser()
    with pytest.raises(SystemExit, match=r"support mace-torch .*0\.3\.16.*, found 0\.4\.0: pip"):
        parser.parse_args(["--name=x", "--loss=weak_taylor"])
    assert parser.parse_args(["--name=x", "--loss=huber"]).loss == "huber"


def test_mace_and_nequip_in_one_environment_are_refused(tmp_path, monkeypatch, files):
    versions = {"nequip": "0.6.2", "e3nn": "0.4.4"}
    monkeypatch.setattr(
        mace_weak.versions, "version", lambda name: versions.get(name) or metadata.version(name)
    )
    line = refusal(tmp_path, *FRESH, f"--train_file={files.molecules}")
    assert "nequip 0.6.2 are in one environment with e3nn 0.4.4" in line
    assert "make an environment for each" in line


def test_a_host_without_declared_support_is_refused():
    with pytest.raises(WeakLossError, match="declares no support for schnet"):
        mace_weak.versions.supported("schnet")


def test_registration_twice_changes_nothing():
    module = importlib.import_module("mace.tools.train")
    before = module.train
    activation.register()
    wrappers.wrap_module(module)
    assert module.train is before
