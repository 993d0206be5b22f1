"""The weak losses of nequip: their scale, their parts and their options."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from agreement import ENERGY, LEARNING_RATE, SETTINGS, expected_ratios, labelled_frames, schedule
from ase.io import read
from batches import batch_of
from conftest import from_package
from e3nn.o3 import Irreps
from nequip.data import AtomicDataDict
from nequip.nn import ForceStressOutput, GraphModel, GraphModuleMixin
from nequip.train import EnergyForceLoss
from predictions import relabelled
from training import base_config, changed, train, weak_config

from mace_weak.errors import NonFiniteWeakLossError, WeakLossError
from mace_weak.losses import LOSSES
from mace_weak.nequip import train as public
from mace_weak.nequip.anchor import Models
from mace_weak.nequip.run import WeakRun
from mace_weak.nequip.train import WeakPIWSLoss, WeakTaylorLoss
from mace_weak.nequip.train.losses import WeakLoss
from mace_weak.schedule import Place


class MorseEnergy(GraphModuleMixin, torch.nn.Module):
    """The analytic potential as an energy model of nequip."""

    def __init__(self) -> None:
        super().__init__()
        self._init_irreps(
            irreps_in={AtomicDataDict.POSITIONS_KEY: Irreps("1o")},
            irreps_out={AtomicDataDict.TOTAL_ENERGY_KEY: Irreps("0e")},
        )

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        structure = data[AtomicDataDict.BATCH_KEY]
        n_structures = AtomicDataDict.num_frames(data)
        energy = ENERGY(data[AtomicDataDict.POSITIONS_KEY], structure, n_structures)
        return {**data, AtomicDataDict.TOTAL_ENERGY_KEY: energy.unsqueeze(-1)}


def morse_model() -> GraphModel:
    model = ForceStressOutput(MorseEnergy())
    return GraphModel(model, model_input_fields=model.irreps_in).train()


pytestmark = pytest.mark.usefixtures("nequip_dtype")


@pytest.fixture
def batch(nequip_dtype) -> AtomicDataDict.Type:
    return batch_of(labelled_frames())


def attached(loss: Any, model: GraphModel, *, order: int = 1) -> Any:
    place = Place(2, 0, LEARNING_RATE)
    loss.attach(WeakRun(schedule(order, loss.name), Models.of(model), None, lambda: place))
    return loss


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("coefficient", [1.0, 3.0])
def test_the_ratio_of_weak_to_supervised_is_that_of_the_core(batch, coefficient, order):
    """As MACE's test of this name finds, whatever nequip's normalised coefficients are."""
    model = morse_model()
    loss = attached(WeakPIWSLoss({"total_energy": coefficient}, **SETTINGS), model, order=order)
    metrics = loss(model(batch), batch)
    expected = expected_ratios(labelled_frames(), order)
    for term, ratio in expected.items():
        found = metrics[f"weak_{term}"] / metrics["supervised"]
        assert found.item() == pytest.approx(ratio, rel=1e-9)
    assert set(expected) == {"taylor", "spatial"}


def test_the_weak_weight_is_relative_to_the_energy_term_beside_forces(batch):
    """Coefficients are normalised to a sum of 1, and the weak part follows that of the energy."""
    model = morse_model()
    target = {**batch, "forces": torch.zeros_like(batch["pos"])}
    alone = attached(WeakTaylorLoss({"total_energy": 1.0}, weak_taylor_weight=7), model)
    both = attached(
        WeakTaylorLoss({"total_energy": 1.0, "forces": 3.0}, weak_taylor_weight=7), model
    )
    values = [loss(model(batch), target)["weak_taylor"].item() for loss in (alone, both)]
    assert values[1] == pytest.approx(0.25 * values[0], rel=1e-12)


def test_a_type_that_the_batch_has_not_is_left_out_of_its_forces(batch):
    """As nequip does."""
    single = AtomicDataDict.frame_from_batched(batch, 0)
    weights = dict.fromkeys(("H", "C", "N", "O"), 1.0)
    assert len(single["atom_types"].unique()) < len(weights)
    model = morse_model()
    target = {**single, "forces": torch.ones_like(single["pos"])}
    settings = {"coeffs": {"total_energy": 1.0, "forces": 3.0}, "type_names": list(weights)}
    loss = attached(WeakTaylorLoss(**settings, per_type_forces_coeffs=weights), model)
    stock = EnergyForceLoss(**settings, per_type_forces_coeffs=weights)
    output = model(single)
    found, expected = (each(output, target)["forces_mse"].item() for each in (loss, stock))
    assert found == pytest.approx(expected, rel=1e-12)


def test_missing_forces_and_forces_by_type_are_refused():
    with pytest.raises(WeakLossError, match="per_type_forces_coeffs needs the forces of all"):
        WeakTaylorLoss(
            {"total_energy": 1.0, "forces": 1.0}, type_names=["H"],
            per_type_forces_coeffs={"H": 1.0}, ignore_nan={"forces": True},
        )  # fmt: skip


def test_a_loss_of_total_energies_takes_total_residuals(batch):
    model = morse_model()
    settings = {"coeffs": {"total_energy": 1.0}, "weak_taylor_weight": 7}
    single = AtomicDataDict.frame_from_batched(batch, 0)
    values = []
    for per_atom in (True, False):
        loss = attached(WeakTaylorLoss(**settings, per_atom_energy=per_atom), model)
        values.append(loss(model(single), single)["weak_taylor"].item())
    assert values[1] == pytest.approx(values[0] * len(single["pos"]) ** 2, rel=1e-12)


def test_the_gradient_is_that_of_the_sum_of_the_parts(batch):
    """Scaling the model's energies by a parameter: d/dc of c² (weak) and (cE−E_ref)²."""
    model = morse_model()
    scale = torch.tensor(1.3, requires_grad=True)
    own = model.model.func.forward

    def scaled(data):
        out = own(data)
        return {**out, "total_energy": scale * out["total_energy"]}

    model.model.func.forward = scaled
    loss = attached(WeakPIWSLoss({"total_energy": 1.0}, **SETTINGS), model)
    metrics = loss(model(batch), batch)
    weak = metrics["weak_taylor"] + metrics["weak_spatial"]
    (gradient,) = torch.autograd.grad(weak, scale, retain_graph=True)
    assert gradient.item() == pytest.approx(2 * weak.item() / 1.3, rel=1e-9)
    (whole,) = torch.autograd.grad(metrics["weighted_sum"], scale, retain_graph=True)
    (supervised,) = torch.autograd.grad(metrics["supervised"], scale)
    assert whole.item() == pytest.approx((gradient + supervised).item(), rel=1e-9)


def test_a_potential_that_breaks_stops_the_run(batch):
    """Here at the displaced positions of one structure only."""
    model = morse_model()
    loss = attached(WeakTaylorLoss({"total_energy": 1.0}, weak_taylor_weight=7), model)
    output = model(batch)
    own = model.model.func.forward

    def broken(data):
        out = own(data)
        energy = out["total_energy"].index_fill(0, torch.tensor([2]), float("nan"))
        return {**out, "total_energy": energy}

    model.model.func.forward = broken
    with pytest.raises(NonFiniteWeakLossError, match="nan at epoch 2, step 0, from structure 2 "):
        loss(output, batch)


def test_a_loss_without_a_weak_module_is_refused(batch):
    loss = WeakTaylorLoss({"total_energy": 1.0})
    with pytest.raises(WeakLossError, match=r"set training_module\._target_ to mace_weak"):
        loss(morse_model()(batch), batch)


def test_zero_weight_is_nequips_loss_to_the_bit(tmp_path, finetune):
    weak = train(tmp_path / "weak", weak_config(finetune, weak_taylor_weight=0))
    alone = train(tmp_path / "alone", finetune)
    assert weak.column("weighted_sum") == alone.column("weighted_sum")
    torch.testing.assert_close(weak.parameters, alone.parameters, rtol=0, atol=0)


def test_the_weight_follows_the_learning_rate(tmp_path, finetune):
    """By default, in proportion; 1 at 0.01. The model hardly moves."""
    slow = changed(
        finetune,
        training_module__optimizer__lr=1e-9,
        training_module__lr_scheduler={
            "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5},
            "interval": "epoch",
        },
    )
    following = train(tmp_path / "following", weak_config(slow, weak_taylor_weight=1e7))
    constant = train(
        tmp_path / "constant",
        weak_config(slow, weak_taylor_weight=1, weak_schedule="constant"),
    )
    epochs = [row["epoch"] for row in constant.rows if "train_loss_step/weak_taylor" in row]
    assert len(set(epochs)) > 1
    for epoch, one, other in zip(epochs, following.steps, constant.steps, strict=True):
        expected = 0.5**epoch * other["weak_taylor"]
        assert one["weak_taylor"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("start", "order"),
    [("scratch", 0), ("foundation", 1), ("few energies", 0), ("few energies, forces", 1)],
)
def test_the_default_order_depends_on_the_start_and_the_labels(
    tmp_path, files, foundation, finetune, start, order
):
    few = relabelled(tmp_path / "few.xyz", read(files.molecules, ":"), foundation)
    model = {"training_module__model": from_package(foundation)}
    config = {
        "scratch": base_config(files.molecules),
        "foundation": finetune,
        "few energies": changed(base_config(few, labels=["total_energy"]), **model),
        "few energies, forces": changed(base_config(files.molecules), **model),
    }[start]
    runs = {
        given: train(
            tmp_path / str(given),
            weak_config(config, weak_anchor=str(foundation), weak_order=given),
        )
        for given in ("auto", 0, 1)
    }
    assert runs["auto"].column("weak_taylor") == runs[order].column("weak_taylor")
    assert runs["auto"].column("weak_taylor") != runs[1 - order].column("weak_taylor")


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_an_anchor_of_another_surface_is_warned_of(tmp_path, files, foundation, caplog, factor):
    own = relabelled(tmp_path / "own.xyz", read(files.molecules, ":"), foundation, factor=factor)
    config = changed(
        base_config(own, labels=["total_energy"]),
        training_module__model=from_package(foundation),
        data__split_dataset={"file_path": str(own), "train": 0.9, "val": 0.1},
    )
    run = train(tmp_path / "run", weak_config(config))
    assert ("its surface is another one" in caplog.text) == (factor < 0)
    assert max(run.column("weak_taylor")) > 0


def test_labels_that_leave_the_forces_open_are_anchored_on_the_foundation(
    tmp_path, finetune, caplog
):
    """The run is that of weak_anchor auto, step by step."""
    runs = [
        train(tmp_path / anchor, weak_config(finetune, weak_anchor=anchor))
        for anchor in ("auto", "tangent")
    ]
    assert "too little for the tangent model as the anchor" in caplog.text
    for name in ("supervised", "weak_taylor"):
        assert runs[1].column(name) == runs[0].column(name)
    assert max(runs[1].column("weak_forces")) == 0


def test_accumulated_batches_equal_one_batch(tmp_path, finetune):
    """Two batches of two structures, or one of four: the displacements are those structures'."""
    config = changed(
        finetune,
        data__split_dataset={**finetune["data"]["split_dataset"], "train": 8, "val": 4},
        data__train_dataloader__shuffle=False,
    )
    config = weak_config(
        config,
        "weak_piwsl",
        weak_taylor_weight=100,
        weak_spatial_weight=100,
        weak_schedule="constant",
    )
    whole = train(tmp_path / "whole", config)
    halves = train(
        tmp_path / "halves",
        changed(config, data__train_dataloader__batch_size=2, trainer__accumulate_grad_batches=2),
    )
    epochs = [
        [row[name] for row in run.rows if (name := "train_loss_epoch/weak_taylor") in row]
        for run in (whole, halves)
    ]
    assert epochs[1] == pytest.approx(epochs[0], rel=1e-3)
    torch.testing.assert_close(halves.parameters, whole.parameters, rtol=1e-4, atol=1e-6)


def test_every_loss_of_the_table_is_a_class_of_the_public_module():
    """By its name there, so that it can be pickled as any other class."""
    for name, loss in LOSSES.items():
        kind = getattr(public, loss.class_name)
        assert issubclass(kind, WeakLoss)
        assert (kind.name, kind.__name__) == (name, loss.class_name)
        assert pickle.loads(pickle.dumps(kind)) is kind
