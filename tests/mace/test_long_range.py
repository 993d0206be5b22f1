"""Models with long-range electrostatics: their energies as those of any other, on every road."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from batches import batch_of
from conftest import scratch_model
from console import result_of
from mace.calculators import MACECalculator
from physics import HostPhysics, frames, system
from predictions import calculated
from tangent_physics import Parametric, TangentPhysics
from test_potential import MaceHost
from test_tangent import TangentHost, parametric_of
from training import FINETUNE, POLAR, SCRATCH, train

from mace_weak.command.finetune_files import read_training
from mace_weak.command.models import load_model, predict
from mace_weak.errors import WeakLossError
from mace_weak.mace import kinds
from mace_weak.mace.finetuning import parametric_model
from mace_weak.mace.graphs import graph_of, replicated_graph, subset_of, whole_graph
from mace_weak.mace.kinds import extra_inputs, position_energy
from mace_weak.structures import Keys

__all__ = ["frames", "system"]  # fixtures

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture(scope="session")
def polar_copper_foundation(tmp_path_factory, files) -> Path:
    folder = tmp_path_factory.mktemp("polar_copper_foundation")
    return scratch_model(folder, files.copper, epochs=1, kind=POLAR)


@pytest.fixture(params=["polar", "latent"])
def long_range(request) -> torch.nn.Module:
    path = request.getfixturevalue(f"{request.param}_foundation")
    return torch.load(path, weights_only=False)


@pytest.fixture
def polar(polar_foundation) -> torch.nn.Module:
    return torch.load(polar_foundation, weights_only=False)


@pytest.fixture
def polar_copper(polar_copper_foundation) -> torch.nn.Module:
    return torch.load(polar_copper_foundation, weights_only=False)


class TestPolar(HostPhysics):
    beyond: ClassVar[float] = 1e-4

    @pytest.fixture
    def host(self, polar, polar_copper) -> MaceHost:
        return MaceHost(polar, polar_copper)


class TestPolarTangent(HostPhysics, TangentPhysics):
    beyond: ClassVar[float] = 1e-4
    present: ClassVar[float] = 0.99
    rounding: ClassVar[float] = 1e-7

    @pytest.fixture
    def host(self, polar, polar_copper) -> TangentHost:
        return TangentHost(polar, polar_copper)

    @pytest.fixture
    def parametric(self, polar) -> Parametric:
        return partial(parametric_of, polar)


def apart(distance: float) -> Atoms:
    """A water and a hydrogen cyanide so far apart, Å."""
    water = Atoms("OHH", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    cyanide = Atoms("HCN", [[0, 0, 0], [0, 0, 1.06], [0, 0, 2.22]])
    cyanide.positions += [0, 0, distance]
    both = water + cyanide
    both.info["REF_energy"] = 0.0
    return both


def energies_of(model: torch.nn.Module, frames: list[Atoms]) -> torch.Tensor:
    """Energies without the atoms' own, eV."""
    graph = whole_graph(batch_of(frames, model), extra_inputs(model))
    return position_energy(model, graph, model(graph, training=False)).detach()


def test_the_energy_is_the_whole_one_without_the_atoms(long_range, frames):
    """So that its difference to the total is one constant for a composition."""
    moved = [atoms.copy() for atoms in frames]
    for atoms in moved:
        atoms.positions[0] += 0.1
    totals = []
    for each in (frames, moved):
        batch = batch_of(each, long_range)
        output = long_range(batch.to_dict(), training=False)
        totals.append((output["energy"] - position_energy(long_range, batch, output)).detach())
    torch.testing.assert_close(*totals, rtol=0, atol=1e-9)


def test_molecules_farther_apart_than_the_cutoffs_interact(long_range):
    """The part that the interaction energy of MACE leaves out."""
    far = energies_of(long_range, [apart(20.0), apart(25.0)])
    assert float((far[1] - far[0]).abs()) > 1e-8


def test_single_precision_keeps_the_digits_of_small_changes(long_range, frames):
    """Though the atoms' energies are thousands of eV."""
    with torch.no_grad():
        long_range.atomic_energies_fn.atomic_energies.sub_(1e5)
    moved = [atoms.copy() for atoms in frames]
    for atoms in moved:
        atoms.positions[0] += 1e-3
    exact = energies_of(long_range, moved) - energies_of(long_range, frames)
    long_range.float()
    torch.set_default_dtype(torch.float32)
    single = energies_of(long_range, moved) - energies_of(long_range, frames)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0.05, atol=2e-5)


def charged(frames: list[Atoms], *charges: float) -> list[Atoms]:
    copies = [atoms.copy() for atoms in frames]
    for atoms, charge in zip(copies, charges, strict=True):
        atoms.info["total_charge"] = charge
    return copies


def test_replicas_and_subsets_carry_the_charge(polar, frames):
    batch = batch_of(charged(frames, 0.0, 1.0, -1.0), polar)
    keys = extra_inputs(polar)
    chosen = graph_of(batch, subset_of(batch, [1, 2]), keys)
    assert chosen["total_charge"].tolist() == [1.0, -1.0]
    twice = replicated_graph(chosen, chosen["positions"].repeat(2, 1, 1))
    assert twice["total_charge"].tolist() == [1.0, -1.0, 1.0, -1.0]
    energies = polar(twice, training=False)["energy"].detach().view(2, 2)
    torch.testing.assert_close(energies[0], energies[1])
    whole = polar(whole_graph(batch, keys), training=False)["energy"].detach()
    torch.testing.assert_close(energies[0], whole[1:])
    neutral = polar(whole_graph(batch_of(frames, polar), keys), training=False)["energy"]
    assert float((whole - neutral)[1:].detach().abs().min()) > 1e-6


def test_waves_that_molecules_do_not_use_are_left_out(polar, frames):
    """PolarMACE computes molecules without them, but makes those of a cell that MACE gives them."""
    batch = batch_of(frames, polar)
    stock = polar(batch.to_dict(), training=False)
    own = polar(whole_graph(batch, extra_inputs(polar)), training=False)
    for name in ("energy", "forces"):
        torch.testing.assert_close(own[name], stock[name], rtol=0, atol=1e-10)


def test_the_commands_predict_as_the_calculator_of_mace(polar, polar_foundation, frames):
    calculator = MACECalculator(models=polar, device="cpu", model_type="PolarMACE")
    named = charged(frames, 1.0, 0.0, -1.0)
    for atoms in named:
        atoms.info["charge"] = atoms.info.pop("total_charge")  # as MACE's calculator has it
    expected = calculated(calculator, named)
    model = load_model(str(polar_foundation))
    for own in (charged(frames, 1.0, 0.0, -1.0), named):
        found = list(predict(model, own))
        for prediction, (energy, forces) in zip(found, expected, strict=True):
            assert prediction.energy == pytest.approx(energy, abs=1e-8)
            np.testing.assert_allclose(prediction.forces, forces, atol=1e-8)


def test_a_charge_where_the_training_does_not_look_is_refused(files, tmp_path, capsys):
    ions = charged(read(files.molecules, ":8"), *[1.0] * 8)
    for atoms in ions:
        atoms.info["charge"] = atoms.info.pop("total_charge")
    write(tmp_path / "ions.xyz", ions)
    flags = (*SCRATCH, *POLAR, f"--train_file={tmp_path / 'ions.xyz'}", "--loss=weak_taylor")
    with pytest.raises(SystemExit, match="its total_charge is called 'charge', and MACE reads"):
        train(tmp_path / "refused", *flags)
    train(tmp_path / "trained", *flags, "--total_charge_key=charge", "--max_num_epochs=1")


def test_stress_labels_are_doubted(files, tmp_path, polar_copper_foundation):
    flags = (*SCRATCH, *POLAR, f"--train_file={files.copper}", "--loss=weak_taylor")
    run = train(tmp_path, *flags, "--max_num_epochs=1")
    assert "computes the stress of a PolarMACE without the long-range part" in run.log
    out = tmp_path / "report.html"
    found = result_of(
        "evaluate", polar_copper_foundation, files.copper, f"--out={out}", "--probes=0", "--steps=0"
    )
    assert any("without the long-range part" in one["problem"] for one in found["findings"])


def test_two_charges_of_one_structure_are_refused(frames, polar_foundation):
    frames[0].info |= {"charge": 1, "total_charge": 0}
    with pytest.raises(WeakLossError, match="total_charge and charge of C2H6O disagree"):
        list(predict(load_model(str(polar_foundation)), frames))


def test_the_tangent_model_is_of_the_charged_structures(polar_foundation, frames, tmp_path):
    ions = charged(frames, 1.0, 0.0, -1.0)
    write(tmp_path / "train.xyz", [*ions])
    saved = load_model(str(polar_foundation))
    structures = read_training(tmp_path / "train.xyz", Keys(energy="total_charge"))
    found = parametric_model(saved, structures.frames).predicted(lambda done: None)
    expected = [energy for energy, _ in calculated(saved.calculator, ions)]
    np.testing.assert_allclose(found.energies, expected, atol=1e-8)
    for atoms in ions:
        atoms.info["charge"] = atoms.info.pop("total_charge")
    again = parametric_model(saved, ions).predicted(lambda done: None)
    np.testing.assert_allclose(again.energies, expected, atol=1e-8)


def test_check_proposes_the_kind_of_the_foundation_model(polar_foundation, files):
    found = result_of("check", files.ethanols, f"--foundation={polar_foundation}")
    assert "--model=PolarMACE" in str(found["notes"])


REFUSED = {
    "a long-range foundation model without its kind": (
        ("--foundation_model={polar}",), "is a PolarMACE: add --model=PolarMACE",
    ),
    "a short-range foundation model": (
        ("--foundation_model={foundation}", *POLAR), "MACE cannot begin a PolarMACE from a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_mace_cannot_begin_is_refused(
    name, tmp_path, files, foundation, polar_foundation, capsys
):
    flags, message = REFUSED[name]
    filled = [flag.format(polar=polar_foundation, foundation=foundation) for flag in flags]
    with pytest.raises(SystemExit, match=message):
        train(tmp_path, *FINETUNE, f"--train_file={files.ethanol}", "--loss=weak_taylor", *filled)


def test_interactions_that_mace_does_not_transfer_are_refused(polar):
    kinds.require_finetunable(polar, "polar.model", kind="PolarMACE")
    polar.interactions[0] = torch.nn.Identity()
    with pytest.raises(WeakLossError, match="cannot fine-tune a PolarMACE with interactions of"):
        kinds.require_finetunable(polar, "polar.model", kind="PolarMACE")


@pytest.mark.parametrize("found", [None, "0.4.4"])
def test_another_version_of_graph_longrange_is_refused(found, monkeypatch):
    monkeypatch.setattr(kinds, "installed", lambda name: found)
    with pytest.raises(WeakLossError, match=f"found {found or 'none'}: pip install 'mace-weak"):
        kinds.require_library("PolarMACE")
