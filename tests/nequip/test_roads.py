"""Every road through NequIP keeps the weak term: a test for each row of the README's table.

The proof is in the numbers: the weak part is not zero, the loss is the sum of its parts, and the
parameters are other ones than those of the same run with the supervised loss alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import from_checkpoint, from_package, shifted
from datafiles import Files
from torch._dynamo.utils import counters
from training import (
    MOLECULE_TYPES,
    Config,
    Run,
    base_config,
    changed,
    scratch_model,
    train,
    weak_config,
)

from mace_weak.losses import loss_terms
from mace_weak.nequip.train.losses import WeakLoss

HEAVY = 1000.0  # so that a few steps tell
WEIGHTS = {
    "weak_taylor": {"weak_taylor_weight": HEAVY},
    "weak_spatial": {"weak_spatial_weight": HEAVY},
    "weak_piwsl": {"weak_taylor_weight": HEAVY, "weak_spatial_weight": HEAVY},
}


@dataclass(frozen=True)
class Start:
    """What a road may start from: data and models."""

    files: Files
    foundation: Path
    foundation_checkpoint: Path

    def scratch(self, **changes: Any) -> Config:
        return changed(base_config(self.files.molecules), **changes)

    def tuned(self, model: Config | None = None, *, forces: bool = False, **changes: Any) -> Config:
        file = self.files.ethanol_forces if forces else self.files.ethanol
        labels = ["total_energy", "forces"] if forces else ["total_energy"]
        config = changed(base_config(file, labels=labels), **changes)
        model = model or from_package(self.foundation)
        config["training_module"]["model"] = shifted(model, file)
        return config

    def reweighted(self) -> Config:
        config = self.scratch()
        config["trainer"]["callbacks"].append(
            {
                "_target_": "nequip.train.callbacks.SoftAdapt",
                "beta": 1.1,
                "interval": "batch",
                "frequency": 3,
            }
        )
        return config

    def copper(self, *labels: str) -> Config:
        return base_config(self.files.copper, types=["Cu"], labels=["total_energy", *labels])

    def allegro(self) -> Config:
        model = {
            **{key: scratch_model(MOLECULE_TYPES)[key] for key in ALLEGRO_KEYS},
            "_target_": "allegro.model.AllegroModel",
            "l_max": 1,
            "num_layers": 1,
            "num_scalar_features": 8,
            "num_tensor_features": 4,
            "radial_chemical_embed": {
                "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
                "num_bessels": 4,
            },
        }
        return {
            **self.scratch(),
            "training_module": {**self.scratch()["training_module"], "model": model},
        }


ALLEGRO_KEYS = ("seed", "model_dtype", "type_names", "r_max", "avg_num_neighbors")
DTYPE = "training_module__model__model_dtype"
MODULE = "training_module___target_"
SCHEDULE_FREE = {
    MODULE: "nequip.train.ScheduleFreeLightningModule",
    "training_module__optimizer": {"_target_": "schedulefree.AdamWScheduleFree", "lr": 0.01},
}


@dataclass(frozen=True)
class Road:
    """A configuration with nequip's own loss, the weak loss, and its options."""

    config: Callable[[Start], Config]
    loss: str = "weak_taylor"
    options: dict[str, Any] = field(default_factory=dict)


# The rows of the README's table.
ROADS: dict[str, Road] = {
    "from scratch": Road(lambda start: start.scratch()),
    "from scratch, `float64`": Road(lambda start: start.scratch(**{DTYPE: "float64"})),
    "from scratch, Allegro": Road(lambda start: start.allegro()),
    "fine-tuning from a package, energies only": Road(lambda start: start.tuned()),
    "fine-tuning from a package, energies and forces": Road(lambda start: start.tuned(forces=True)),
    "fine-tuning from a checkpoint": Road(
        lambda start: start.tuned(from_checkpoint(start.foundation_checkpoint))
    ),
    "fine-tuning, `WeakSpatialLoss`": Road(lambda start: start.tuned(), "weak_spatial"),
    "fine-tuning, `WeakPIWSLoss`": Road(lambda start: start.tuned(), "weak_piwsl"),
    "EMA": Road(lambda start: start.tuned(**{MODULE: "nequip.train.EMALightningModule"})),
    "schedule-free optimiser": Road(lambda start: start.tuned(**SCHEDULE_FREE)),
    "gradient accumulation": Road(lambda start: start.tuned(trainer__accumulate_grad_batches=2)),
    "batches of different sizes": Road(
        lambda start: start.scratch(data__train_dataloader__batch_size=3)
    ),
    "batches of one structure": Road(
        lambda start: start.scratch(data__train_dataloader__batch_size=1)
    ),
    "nequip's `SoftAdapt`": Road(lambda start: start.reweighted()),
    "data loader workers": Road(lambda start: start.tuned(data__train_dataloader__num_workers=1)),
    "`max_steps`": Road(lambda start: start.tuned(trainer__max_steps=3)),
    "periodic, energies only": Road(lambda start: start.copper()),
    "periodic, with stress": Road(lambda start: start.copper("forces", "stress")),
    "adversarial displacements": Road(
        lambda start: start.tuned(forces=True), options={"weak_direction": "adversarial"}
    ),
    "expansion of order 0": Road(lambda start: start.tuned(), options={"weak_order": 0}),
    "reference labels": Road(
        lambda start: start.tuned(forces=True), options={"weak_labels": "reference"}
    ),
    "every second step, half of the structures": Road(
        lambda start: start.scratch(),
        "weak_piwsl",
        {"weak_every": 2, "weak_fraction": 0.5, "weak_anchor": "none"},
    ),
}

# Further rows, which need a test of their own.
OTHER_ROADS: dict[str, str] = {
    "`compile_mode: compile`: equal to eager": (
        "test_roads.py::test_a_compiled_model_has_the_same_loss"
    ),
    "restart of the plain, EMA and schedule-free modules: identical to an uninterrupted run": (
        "test_restart.py::test_a_restart_equals_an_uninterrupted_run"
    ),
    "DDP, plain and `SimpleDDPStrategy`: two gloo processes equal one": (
        "test_distributed.py::test_two_processes_equal_one_on_the_joint_batch"
    ),
    "gradient accumulation: two half batches equal one": (
        "test_loss.py::test_accumulated_batches_equal_one_batch"
    ),
    "weight zero: nequip's loss to the bit": (
        "test_loss.py::test_zero_weight_is_nequips_loss_to_the_bit"
    ),
    "weight relative to the energy term: the same ratio as with MACE": (
        "test_loss.py::test_the_ratio_of_weak_to_supervised_is_that_of_the_core"
    ),
    "partly labelled data (`ignore_nan`)": (
        "test_bad_input.py::test_missing_labels_are_no_bad_input"
    ),
    "validation without the weak terms": (
        "test_roads.py::test_validation_is_without_the_weak_terms"
    ),
    "checkpoints and packages load without mace-weak": (
        "test_checkpoints.py::test_checkpoints_and_packages_load_without_mace_weak"
    ),
    "`nequip-compile` without mace-weak": (
        "test_checkpoints.py::test_a_model_compiles_without_mace_weak"
    ),
    "the README's configuration by `nequip-train`": (
        "test_readme.py::test_the_configuration_of_the_readme_trains"
    ),
}


@pytest.fixture
def start(files, foundation, foundation_checkpoint) -> Start:
    return Start(files, foundation, foundation_checkpoint)


@pytest.fixture
def pair(tmp_path, start, request) -> tuple[Run, Run]:
    """A weak run of a road, and the same run with nequip's own loss."""
    if "Allegro" in request.param and find_spec("allegro") is None:
        pytest.skip("nequip-allegro is not installed")
    road = ROADS[request.param]
    config = road.config(start)
    options = {**WEIGHTS[road.loss], **road.options}
    return (
        train(tmp_path / "weak", weak_config(config, road.loss, **options)),
        train(tmp_path / "supervised", config),
    )


@pytest.mark.parametrize("pair", ROADS, indirect=True)
def test_the_weak_term_is_trained_on(pair, request):
    weak, alone = pair
    parts = [
        f"weak_{term}" for term in loss_terms(ROADS[request.node.callspec.params["pair"]].loss)
    ]
    for part in parts:
        assert max(weak.column(part)) > 0
        assert any(row.get(f"train_loss_epoch/{part}", 0) > 0 for row in weak.rows)
    for step in weak.steps:
        total = step["supervised"] + sum(step[part] for part in parts)
        assert step["weighted_sum"] == pytest.approx(total, rel=1e-9)
    assert weak.steps[0]["supervised"] == alone.steps[0]["weighted_sum"]
    assert len(weak.steps) == len(alone.steps)
    assert weak.parameters.shape == alone.parameters.shape
    assert float((weak.parameters - alone.parameters).abs().max()) > 1e-8


@pytest.mark.parametrize("pair", ["from scratch"], indirect=True)
def test_validation_is_without_the_weak_terms(pair):
    weak, alone = (
        {name for row in run.rows for name in row if name.startswith("val")} for run in pair
    )
    assert weak == alone


CUDA = pytest.param(
    "gpu",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)


@pytest.mark.parametrize("accelerator", [pytest.param("cpu", marks=pytest.mark.slow), CUDA])
def test_a_compiled_model_has_the_same_loss(tmp_path, start, accelerator, monkeypatch):
    """Without graph breaks, and compiled in the first epoch only."""
    eager = weak_config(start.tuned(), **WEIGHTS["weak_taylor"])
    eager["trainer"]["accelerator"] = accelerator
    compiled = changed(eager, training_module__model__model__compile_mode="compile")
    expected = train(tmp_path / "eager", eager)
    torch._dynamo.reset()
    counters.clear()
    graphs: list[int] = []  # compiled before each step
    told = WeakLoss.at

    def counted(*course):
        graphs.append(counters["stats"]["unique_graphs"])
        told(*course)

    monkeypatch.setattr(WeakLoss, "at", counted)
    found = train(tmp_path / "compiled", compiled)
    assert not counters["graph_break"]
    second_epoch = graphs[len(graphs) // 2 :]
    assert set(second_epoch) == {counters["stats"]["unique_graphs"]}
    assert graphs[0] < second_epoch[0]
    for name in ("supervised", "weak_taylor"):
        assert max(expected.column(name)) > 0
        assert found.column(name) == pytest.approx(expected.column(name), rel=2e-2, abs=1e-6)
