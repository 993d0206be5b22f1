"""Bad input ends before the first step, with a message that says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read, write
from conftest import from_package, package, shifted
from console import mace_weak
from datafiles import Files
from hydra.errors import InstantiationException
from training import MODULES, Config, base_config, changed, train, weak_config

from mace_weak.errors import WeakLossError
from mace_weak.nequip import extension
from mace_weak.nequip import train as weak_train
from mace_weak.nequip.anchor import foundation_model, require_same_cutoff
from mace_weak.nequip.train import WeakSpatialLoss, WeakTaylorLoss

ENERGY = {"total_energy": 1.0}

# Arguments of the loss, and what the message says.
ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown option": ({"weak_wieght": 1}, "unknown option weak_wieght: the options of the weak"),
    "heads": ({"weak_heads": "a"}, "nequip's models have no heads"),
    "negative weight": ({"weak_taylor_weight": -1}, "weak_taylor_weight must be a number of at"),
    "far displacement": ({"weak_displacement": 2}, "above 0 and up to 0.5, not '2'"),
    "every half step": ({"weak_every": 0.5}, "weak_every must be a whole number"),
    "unknown schedule": (
        {"weak_schedule": "exp"},
        "constant, linear, cosine, learning_rate",
    ),
    "weight of an absent term": ({"weak_spatial_weight": 1}, "choose weak_spatial or weak_piwsl"),
    "no coefficients": ({"coeffs": None}, "coeffs: {total_energy: 1.0} trains on energies alone"),
    "no energy": ({"coeffs": {"forces": 1.0}}, "must have a positive total_energy"),
    "energy of zero": ({"coeffs": {"total_energy": 0.0, "forces": 1.0}}, "a positive total_energy"),
    "negative forces": ({"coeffs": {**ENERGY, "forces": -1.0}}, "and no negative one"),
    "unknown coefficient": ({"coeffs": {**ENERGY, "energy": 1.0}}, "and stress, not of energy"),
    "unknown ignored": ({"ignore_nan": {"force": True}}, "and stress, not of force"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments_are_refused(case):
    arguments, message = ARGUMENTS[case]
    with pytest.raises(WeakLossError) as raised:
        WeakTaylorLoss(**{"coeffs": ENERGY, **arguments})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"weak_taylor_weight": 1}, {"weak_labels": "reference"}])
def test_what_only_the_other_term_reads_is_refused(options):
    with pytest.raises(WeakLossError, match=f"{next(iter(options))} has no effect with weak_spat"):
        WeakSpatialLoss(ENERGY, **options)


@dataclass(frozen=True)
class Start:
    files: Files
    foundation: Path
    folder: Path

    def tuned(self) -> Config:
        config = base_config(self.files.ethanol, labels=["total_energy"])
        model = shifted(from_package(self.foundation), self.files.ethanol)
        return changed(config, training_module__model=model)

    @property
    def energies_only(self) -> Path:
        """A package of a model that was made without forces."""
        config = base_config(self.files.molecules, labels=["total_energy"])
        config = changed(config, training_module__model__do_derivatives=False)
        checkpoint = train(self.folder / "energies", config).checkpoint
        return package(checkpoint, self.folder / "energies.nequip.zip")

    def scratch(self) -> Config:
        return base_config(self.files.molecules)

    def spoilt(self, value: float) -> Config:
        """Training data with forces, one of them ``value``."""
        frames = read(self.files.ethanol_forces, ":")
        for atoms in frames:
            atoms.arrays["REF_forces"][3, 1] = value
        path = self.folder / "spoilt.xyz"
        write(path, frames)
        return base_config(path)

    def unplaced(self) -> Config:
        """Training structures of which one has no position: not those of validation."""
        frames = read(self.files.molecules, ":8")
        valid = self.folder / "valid.xyz"
        write(valid, frames)
        frames[3].positions[0, 0] = np.nan
        write(self.folder / "unplaced.xyz", frames)
        return {
            "data__split_dataset": [],
            "data__train_file_path": str(self.folder / "unplaced.xyz"),
            "data__val_file_path": str(valid),
        }

    def write_broken(self) -> str:
        path = self.folder / "broken.nequip.zip"
        path.write_bytes(self.foundation.read_bytes()[:1000])
        return str(path)


def weak(config: Config, **options: Any) -> Config:
    return weak_config(config, **options)


def with_weak_loss_only(config: Config) -> Config:
    loss = weak(config)["training_module"]["loss"]
    return changed(config, training_module__loss=loss)


def with_weak_module_only(config: Config) -> Config:
    return changed(config, training_module___target_=next(iter(MODULES.values())))


# A whole configuration, and what the message says.
CASES: dict[str, tuple[Callable[[Start], Config], str]] = {
    "weak loss in nequip's module": (
        lambda start: with_weak_loss_only(start.scratch()),
        "set training_module._target_ to mace_weak.nequip.train.WeakLightningModule",
    ),
    "nequip's loss in a weak module": (
        lambda start: with_weak_module_only(start.scratch()),
        "WeakLightningModule needs a weak loss, not MetricsManager",
    ),
    "no derivatives": (
        lambda start: changed(
            weak(base_config(start.files.ethanol, labels=["total_energy"])),
            training_module__model__do_derivatives=False,
        ),
        "remove do_derivatives: false",
    ),
    "auto anchor, no foundation": (
        lambda start: weak(start.scratch(), weak_anchor="auto"),
        "weak_anchor: auto needs a foundation model",
    ),
    "order 0, no anchor": (
        lambda start: weak(start.scratch(), weak_order=0),
        "weak_order 0 without an anchor would hold the forces at zero",
    ),
    "a position that is none": (
        lambda start: weak(changed(start.scratch(), **start.unplaced())),
        "structure 3 (counted from 0) of the training set: a position is NaN",
    ),
    "tangent anchor, no foundation": (
        lambda start: weak(start.scratch(), weak_anchor="tangent"),
        "weak_anchor: tangent needs a foundation model",
    ),
    "tangent anchor with an order": (
        lambda start: weak(start.scratch(), weak_anchor="tangent", weak_order=1),
        "weak_order has no effect with weak_anchor tangent",
    ),
    "anchor missing": (
        lambda start: weak(start.scratch(), weak_anchor="no.nequip.zip"),
        "there is no file 'no.nequip.zip'",
    ),
    "anchor broken": (
        lambda start: weak(start.scratch(), weak_anchor=start.write_broken()),
        "cannot be read as a model",
    ),
    "anchor of other types": (
        lambda start: weak(
            base_config(start.files.copper, types=["Cu"]), weak_anchor=str(start.foundation)
        ),
        "the anchor lacks the atom types Cu (it has H, C, N, O)",
    ),
    "anchor of another cutoff": (
        lambda start: changed(
            weak(start.scratch(), weak_anchor=str(start.foundation)),
            training_module__model__r_max=3.5,
        ),
        "the anchor has the cutoff 4.0 Å, the model 3.5 Å",
    ),
    "NaN labels": (
        lambda start: weak(start.spoilt(np.nan)),
        "forces of structure 0 (counted from 0) of the training set is NaN: correct or remove it",
    ),
    "infinite labels": (
        lambda start: weak(start.spoilt(np.inf)),
        "forces of structure 0 (counted from 0) of the training set is infinite",
    ),
    "forces in coeffs, none in the data": (
        lambda start: changed(
            weak(start.tuned()), training_module__loss__coeffs={"total_energy": 1, "forces": 1}
        ),
        "has a coefficient for forces, but structure 0",
    ),
    "adversarial to nothing": (
        lambda start: weak(
            base_config(start.files.ethanol, labels=["total_energy"]),
            weak_direction="adversarial",
        ),
        "needs force labels or an anchor",
    ),
    "starts after the end": (
        lambda start: weak(start.tuned(), weak_start_epoch=2),
        "weak_start_epoch: 2 is not before the end of training (2 epochs)",
    ),
    "a schedule without end": (
        lambda start: changed(weak(start.tuned(), weak_schedule="cosine"), trainer__max_epochs=-1),
        "weak_schedule: cosine needs an end",
    ),
}


def step_that_must_not_be_taken(optimizer: Any, closure: Callable[[], Any]) -> None:
    closure()  # Lightning computes the loss here
    pytest.fail("it trained")


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(tmp_path, files, foundation, case, monkeypatch):
    """The first optimiser step is never taken."""
    make, message = CASES[case]
    config = make(Start(files, foundation, tmp_path))
    monkeypatch.setattr("torch.optim.Adam.step", step_that_must_not_be_taken)
    # hydra wraps what happens in a constructor
    with pytest.raises((WeakLossError, InstantiationException), match=re.escape(message)):
        train(tmp_path / "run", config)


def test_a_package_of_energies_only_is_refused_in_one_line(tmp_path, files, foundation):
    """By the trainings, as a start and as an anchor, and by all commands."""
    start = Start(files, foundation, tmp_path)
    model = start.energies_only
    for config, message in (
        (weak(replace(start, foundation=model).tuned()), "the weak losses need forces"),
        (weak(start.tuned(), weak_anchor=str(model)), "the anchor gives no forces"),
    ):
        with pytest.raises((WeakLossError, InstantiationException), match=message):
            train(tmp_path / "run", config)
    for arguments in (
        ("check", files.ethanol, "--foundation", model),
        ("evaluate", model, files.ethanol_forces, f"--out={tmp_path / 'page'}"),
        ("finetune", model, files.ethanol, f"--out={tmp_path / 'tuned'}"),
    ):
        done = mace_weak(*arguments)
        assert done.returncode == 2, arguments
        assert "gives energies only, as it was made with do_derivatives: false" in done.stderr
        assert "Traceback" not in done.stderr


def test_missing_labels_are_no_bad_input(tmp_path, files):
    """nequip's way: NaN, and ``ignore_nan``."""
    frames = read(files.ethanol_forces, ":")
    for atoms in frames[::2]:
        atoms.arrays["REF_forces"][:] = np.nan
    write(tmp_path / "some.xyz", frames)
    config = weak(
        base_config(tmp_path / "some.xyz"), weak_labels="reference", ignore_nan={"forces": True}
    )
    run = train(tmp_path / "run", changed(config, data__train_dataloader__drop_last=True))
    assert np.isfinite(run.column("weighted_sum")).all()
    assert max(run.column("weak_taylor")) > 0
    alone = train(tmp_path / "alone", changed(config, data__train_dataloader__batch_size=1))
    errors = alone.column("forces_mse")  # nequip's own mean over no labels is NaN
    assert np.isfinite(alone.column("weighted_sum")).all()
    assert 0 < errors.count(0.0) < len(errors)


def test_an_anchor_with_other_pair_cutoffs_is_refused():
    plain = {"r_max": "4.0"}
    with pytest.raises(WeakLossError, match="different per_edge_type_cutoff"):
        require_same_cutoff(plain, {**plain, "per_edge_type_cutoff": "4.0 3.0"})


def test_two_foundations_need_a_choice(foundation):
    model = {"_target_": "some.sum_of_models", "models": [from_package(foundation)] * 2}
    with pytest.raises(WeakLossError, match="built from 2 packages or checkpoints"):
        foundation_model(model)


def test_a_nequip_outside_of_the_range_is_refused(monkeypatch):
    monkeypatch.setattr("mace_weak.versions.version", lambda name: "0.18.0")
    with pytest.raises(WeakLossError, match=r"support nequip .*0\.19.*, found 0\.18\.0: pip"):
        weak_train.WeakTaylorLoss  # noqa: B018


def test_mace_in_the_same_environment_is_refused(monkeypatch):
    both = {"mace-torch": "0.3.16", "nequip": version("nequip"), "e3nn": "0.4.4"}
    monkeypatch.setattr("mace_weak.versions.version", both.__getitem__)
    with pytest.raises(WeakLossError, match="make an environment for each"):
        weak_train.WeakTaylorLoss  # noqa: B018


def test_an_unsupported_nequip_is_left_alone(monkeypatch):
    """nequip itself goes on working: the extension only steps aside."""
    monkeypatch.setattr("mace_weak.versions.version", lambda name: "0.18.0")
    monkeypatch.setattr("nequip.data.register_fields", lambda **_: pytest.fail("registered"))
    extension.extend()


def test_there_is_no_other_class():
    with pytest.raises(AttributeError, match="has no attribute 'WeakerLoss'"):
        weak_train.WeakerLoss  # noqa: B018
