"""The roads through NequIP: a configuration for each row of the README's table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import from_checkpoint, from_package, shifted
from datafiles import Files
from training import MOLECULE_TYPES, Config, base_config, changed, scratch_model


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

    def settled(self, model: Config | None = None, **changes: Any) -> Config:
        """Enough energies for the tangent model to settle the forces."""
        config = self.tuned(model, **changes)
        config["data"]["split_dataset"] = {
            "file_path": str(self.files.ethanols), "train": 0.9, "val": 0.1
        }  # fmt: skip
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
TANGENT = {"weak_anchor": "tangent"}
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
    "tangent anchor": Road(lambda start: start.settled(), options=TANGENT),
    "tangent anchor, from a checkpoint": Road(
        lambda start: start.settled(from_checkpoint(start.foundation_checkpoint)), options=TANGENT
    ),
    "tangent anchor, energies and forces": Road(
        lambda start: start.tuned(forces=True), options=TANGENT
    ),
    "tangent anchor, both terms, EMA": Road(
        lambda start: start.settled(**{MODULE: "nequip.train.EMALightningModule"}),
        "weak_piwsl",
        TANGENT,
    ),
    "tangent anchor, schedule-free optimiser": Road(
        lambda start: start.settled(**SCHEDULE_FREE), options=TANGENT
    ),
    "every second step, half of the structures": Road(
        lambda start: start.scratch(),
        "weak_piwsl",
        {"weak_every": 2, "weak_fraction": 0.5, "weak_anchor": "none"},
    ),
}

# Further rows, which need a test of their own.
OTHER_ROADS: dict[str, str] = {
    "order 0 by itself: from scratch, or with few energies for the atoms": (
        "test_loss.py::test_the_default_order_depends_on_the_start_and_the_labels"
    ),
    "`compile_mode: compile`, with the tangent anchor too: equal to eager": (
        "test_roads.py::test_a_compiled_model_has_the_same_loss"
    ),
    "restart of the plain, EMA and schedule-free modules: identical to an uninterrupted run": (
        "test_restart.py::test_a_restart_equals_an_uninterrupted_run"
    ),
    "DDP, plain and `SimpleDDPStrategy`: two gloo processes equal one": (
        "test_distributed.py::test_two_processes_equal_one_on_the_joint_batch"
    ),
    "tangent anchor, restart: goes on with the same solution": (
        "test_restart.py::test_a_restart_keeps_the_tangent_model"
    ),
    "tangent anchor, DDP: solved once": (
        "test_distributed.py::test_two_processes_share_one_tangent_model"
    ),
    "tangent anchor, labels that leave the forces open: the foundation model is the anchor": (
        "test_loss.py::test_labels_that_leave_the_forces_open_are_anchored_on_the_foundation"
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
    "the configuration of docs/nequip.md by `nequip-train`": (
        "test_readme.py::test_the_configuration_of_the_readme_trains"
    ),
}
