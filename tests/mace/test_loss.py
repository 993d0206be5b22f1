"""The weak loss in a training: its meaning, its bookkeeping, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from ase.io import read, write
from batches import batch_of, data_of
from mace import modules
from predictions import relabelled
from training import FINETUNE, SCRATCH, train

from mace_weak.errors import WeakLossError
from mace_weak.mace.anchor import Anchor
from mace_weak.mace.graphs import is_label
from mace_weak.mace.loss import Bridge, WeakLoss, energy_penalty, weights_of


@pytest.fixture
def finetune(tmp_path, finetune_flags):
    """Fine-tune on ethanol energies, in a folder of the given name."""

    def run(name: str, *flags: str):
        return train(tmp_path / name, *finetune_flags, *flags)

    return run


def test_zero_weight_is_the_base_loss_to_the_bit(finetune):
    zero = finetune("zero", "--loss=weak_taylor", "--weak_taylor_weight=0")
    base = finetune("base", "--loss=weighted")
    assert zero.column("loss") == base.column("loss")
    assert torch.equal(zero.parameters, base.parameters)


def test_before_its_start_epoch_the_term_is_absent(finetune):
    late = finetune("late", "--loss=weak_taylor", "--weak_start_epoch=1")
    base = finetune("base", "--loss=weighted")
    first = [step for step in late.steps if step["epoch"] == 0]
    assert [step["loss"] for step in first] == [
        step["loss"] for step in base.steps if step["epoch"] == 0
    ]
    assert all("loss_taylor" not in step for step in first)
    assert any(step.get("loss_taylor", 0) > 0 for step in late.steps if step["epoch"] == 1)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(finetune):
    flags = ("--loss=weak_piwsl",)
    first, again = finetune("first", *flags), finetune("again", *flags)
    assert first.column("loss") == again.column("loss")
    other = finetune("other", *flags, "--seed=2")
    assert first.column("loss_taylor") != other.column("loss_taylor")


def test_the_parts_add_up_to_the_loss(finetune):
    for step in finetune("run", "--loss=weak_piwsl").steps:
        parts = step["loss_supervised"] + step["loss_taylor"] + step["loss_spatial"]
        assert parts == pytest.approx(step["loss"], rel=1e-9)


def test_the_anchor_labels_each_structure_once(finetune, monkeypatch):
    labelled = []
    genuine = Anchor.label

    def counted(self, graph):
        labelled.append(graph["ptr"].numel() - 1)
        return genuine(self, graph)

    monkeypatch.setattr(Anchor, "label", counted)
    finetune("run", "--loss=weak_piwsl", "--max_num_epochs=3")
    assert sum(labelled) == 9


def test_validation_is_supervised(finetune):
    """With a weight that would dwarf it, the validation loss is still the energy's."""
    heavy = (
        "--loss=weak_taylor", "--weak_anchor=none", "--weak_taylor_weight=1e9",
        "--weak_schedule=constant",
    )  # fmt: skip
    run = finetune("run", *heavy, "--lr=1e-9")
    base = finetune("base", "--loss=weighted", "--lr=1e-9")
    validation = [
        [row["loss"] for row in each.rows if row["mode"] == "eval"] for each in (run, base)
    ]
    assert validation[0] == pytest.approx(validation[1], rel=1e-4)
    assert max(run.column("loss_taylor")) > 10 * max(run.column("loss_supervised"))


def test_the_weight_follows_the_learning_rate(finetune):
    """By default, in proportion; 1 at 0.01. The model hardly moves."""
    flags = (
        "--loss=weak_taylor", "--weak_anchor=none", "--lr=1e-9", "--scheduler=ExponentialLR",
        "--lr_scheduler_gamma=0.5",
    )  # fmt: skip
    following = finetune("following", *flags, "--weak_taylor_weight=1e7")
    constant = finetune("constant", *flags, "--weak_taylor_weight=1", "--weak_schedule=constant")
    assert len({row["epoch"] for row in constant.steps}) > 1
    for one, other in zip(following.steps, constant.steps, strict=True):
        factor = 0.5 ** one["epoch"]
        assert one["loss_taylor"] == pytest.approx(factor * other["loss_taylor"], rel=1e-3)


@pytest.mark.parametrize(
    ("start", "order"),
    [("scratch", 0), ("foundation", 1), ("few energies", 0), ("few energies, forces", 1)],
)
def test_the_default_order_depends_on_the_start_and_the_labels(
    tmp_path, files, foundation, start, order
):
    tuned = (*FINETUNE, f"--foundation_model={foundation}")
    few = relabelled(tmp_path / "few.xyz", read(files.molecules, ":"), foundation)
    flags = {
        "scratch": (*SCRATCH, f"--train_file={files.molecules}"),
        "foundation": (*tuned, f"--train_file={files.ethanol}"),
        "few energies": (*tuned, f"--train_file={few}"),
        "few energies, forces": (*tuned, f"--train_file={files.molecules}"),
    }
    anchored = (*flags[start], "--loss=weak_taylor", f"--weak_anchor={foundation}")
    parts = {
        given: train(tmp_path / given, *anchored, f"--weak_order={given}").column("loss_taylor")
        for given in ("auto", "0", "1")
    }
    assert parts["auto"] == parts[str(order)]
    assert parts["auto"] != parts[str(1 - order)]


def test_labels_that_leave_the_forces_open_are_anchored_on_the_foundation(
    tmp_path, one_batch_flags
):
    runs = [
        train(tmp_path / anchor, *one_batch_flags, "--loss=weak_taylor", f"--weak_anchor={anchor}")
        for anchor in ("auto", "tangent")
    ]
    assert "too little for the tangent model as the anchor" in runs[1].log
    assert runs[1].column("loss_taylor") == runs[0].column("loss_taylor")


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_an_anchor_of_another_surface_is_warned_of(tmp_path, files, foundation, factor):
    own = relabelled(tmp_path / "own.xyz", read(files.molecules, ":"), foundation, factor=factor)
    flags = (*FINETUNE, f"--foundation_model={foundation}", f"--train_file={own}")
    run = train(tmp_path / "run", *flags, "--valid_fraction=0.1", "--loss=weak_taylor")
    assert ("its surface is another one" in run.log) == (factor < 0)
    assert max(run.column("loss_taylor")) > 0


def test_stage_two_weighs_by_its_energy_weight(finetune):
    """Parts of the two stages at the same displacements differ by the energy weights."""
    flags = ("--loss=weak_taylor", "--weak_anchor=none", "--weak_schedule=constant", "--lr=1e-12")
    stage_one = finetune("one", *flags)
    stage_two = finetune(
        "two", *flags, "--swa", "--start_swa=1", "--swa_energy_weight=7", "--swa_lr=1e-12"
    )
    for one, two in zip(stage_one.steps, stage_two.steps, strict=True):
        factor = 7.0 if two["epoch"] == 1 else 1.0
        assert two["loss_taylor"] == pytest.approx(factor * one["loss_taylor"], rel=1e-4)


def test_the_replay_head_takes_no_weak_terms(finetune, files):
    run = finetune(
        "run",
        "--multiheads_finetuning=True",
        f"--pt_train_file={files.molecules}",
        "--loss=weak_taylor",
    )
    assert "heads Default" in run.log
    assert "the anchor labelled 9 structures" in run.log
    assert "UniversalLoss" in run.log
    assert max(run.column("loss_taylor")) > 0


def test_chosen_heads_take_the_terms(finetune, files):
    heads = {
        name: {"train_file": str(files.ethanol), "E0s": "estimated"} for name in ("first", "second")
    }
    run = finetune("run", f"--heads={heads}", "--loss=weak_taylor", "--weak_heads=second")
    assert "heads second" in run.log
    assert "the anchor labelled 9 structures" in run.log
    assert max(run.column("loss_taylor")) > 0


def test_heads_with_names_of_labels_of_their_own_are_read_by_them(tmp_path, finetune, files):
    frames = read(files.ethanol, ":")
    for atoms in frames:
        atoms.info = {"CC_energy": atoms.info["REF_energy"]}
    write(tmp_path / "cc.xyz", frames)
    heads = {
        "dft": {"train_file": str(files.ethanol), "E0s": "estimated"},
        "cc": {
            "train_file": str(tmp_path / "cc.xyz"), "E0s": "estimated",
            "info_keys": {"energy": "CC_energy"}, "arrays_keys": {"forces": "CC_forces"},
        },
    }  # fmt: skip
    run = finetune("run", f"--heads={heads}", "--loss=weak_taylor", "--weak_heads=cc")
    assert "heads cc" in run.log
    assert max(run.column("loss_taylor")) > 0


def test_a_non_finite_term_stops_the_run_and_spares_the_checkpoints(
    tmp_path, finetune, monkeypatch
):
    import mace_weak.mace.loss as module

    genuine = module.residuals_of

    def poisoned(step, *args):
        residuals = genuine(step, *args)
        if 3 in step.structures and step.epoch == 1:
            spoiler = torch.zeros(len(step.structures))
            spoiler[step.structures.index(3)] = float("nan")
            residuals = {term: residual + spoiler for term, residual in residuals.items()}
        return residuals

    monkeypatch.setattr(module, "residuals_of", poisoned)
    with pytest.raises(SystemExit, match=r"the taylor term is nan at epoch 1, step .*structure 3 "):
        finetune("run", "--loss=weak_taylor", "--max_num_epochs=4")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("*.pt")
    assert checkpoint.name.endswith("epoch-0.pt")
    state = torch.load(checkpoint, weights_only=False)["model"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_a_structure_that_maces_weights_switch_off_has_no_labels(files, foundation):
    used, unused = read(files.ethanol_forces, ":2")
    unused.info["config_weight"] = 0.0
    model = torch.load(foundation, weights_only=False)
    found = [
        [is_label(data, name) for name in ("energy", "forces")]
        for data in data_of([used, unused], model)
    ]
    assert found == [[True, True], [False, False]]


def test_a_non_finite_supervised_loss_is_said_to_be_it(finetune):
    with pytest.raises(SystemExit, match=r"the supervised loss is (nan|inf) at epoch \d, step "):
        finetune("run", "--loss=weak_taylor", "--lr=1e30")


@pytest.mark.parametrize(
    "supervised",
    [
        modules.WeightedEnergyForcesLoss(),
        modules.UniversalLoss(),
        modules.WeightedHuberEnergyForcesStressLoss(),
        modules.WeightedEnergyForcesL1L2Loss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_structures_weigh_as_much_as_in_the_energy_term(supervised, files, foundation):
    """Small errors, for which huber is a square."""
    batch = batch_of(read(files.ethanol, ":3"), torch.load(foundation, weights_only=False))
    batch.weight[1] = 100.0
    pred = {"energy": batch.energy + 1e-3, "forces": batch.forces, "stress": batch.stress}
    weighed = float(supervised(batch, pred))
    batch.weight[1] = 1.0
    ratio = weighed / float(supervised(batch, pred))
    batch.weight[1] = 100.0
    assert float(weights_of(supervised, batch).mean()) == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(
    ("supervised", "expected"),
    [
        (modules.WeightedEnergyForcesLoss(), 4e-4),
        (modules.WeightedEnergyForcesStressLoss(), 4e-4),
        (modules.WeightedEnergyForcesVirialsLoss(), 4e-4),
        (modules.UniversalLoss(huber_delta=0.01), 1.5e-4),
        (modules.WeightedHuberEnergyForcesStressLoss(huber_delta=0.01), 1.5e-4),
        (modules.WeightedEnergyForcesL1L2Loss(), 0.02),
    ],
)
def test_the_penalty_is_that_of_the_energy_term(supervised, expected):
    assert float(energy_penalty(supervised)(torch.tensor(0.02))) == pytest.approx(expected)


def test_a_loss_without_energy_is_refused():
    with pytest.raises(WeakLossError, match="DipoleSingleLoss has no energy term"):
        energy_penalty(modules.DipoleSingleLoss())


def test_a_loss_outside_of_training_is_refused(files, foundation):
    model = torch.load(foundation, weights_only=False)
    loss = WeakLoss(modules.WeightedEnergyForcesLoss(), Bridge("weak_taylor"))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    batch = batch_of(read(files.ethanol, ":1"), model)
    prediction = model(batch.to_dict(), training=True)
    torch.set_default_dtype(before)
    with pytest.raises(RuntimeError, match="before its training began"):
        loss(ref=batch, pred=prediction)
