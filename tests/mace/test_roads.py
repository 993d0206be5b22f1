"""Every road through MACE keeps the weak term: a test for each row of the README's table.

The proof is in the numbers: the weak part is not zero, and the parameters are other ones than
those of the same run with the supervised loss alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from training import FINETUNE, POLAR, SCRATCH, Run, train

from mace_weak.losses import FORCES, loss_terms

FOUNDATION = ("--foundation_model={foundation}", *FINETUNE)
REPLAY = (*FOUNDATION, "--multiheads_finetuning=True", "--pt_train_file={molecules}")
# So that a few steps tell, at any learning rate (replay sets its own, 1e-4).
HEAVY = ("--weak_taylor_weight=1000", "--weak_schedule=constant")
SPATIAL = ("--loss=weak_spatial", "--weak_spatial_weight=1000", "--weak_schedule=constant")
TAYLOR = ("--loss=weak_taylor", *HEAVY)
BOTH = ("--loss=weak_piwsl", *HEAVY)
LBFGS = ("--lbfgs", "--max_num_epochs=1")  # of many passes
TANGENT_LOSS = ("--loss=weak_taylor", "--weak_anchor=tangent")
TANGENT = (*FOUNDATION, *TANGENT_LOSS)
LATENT_FOUNDATION = ("--foundation_model={latent}", *FINETUNE, "--model=MACELES")
POLAR_FOUNDATION = ("--foundation_model={polar}", *FINETUNE, *POLAR)

# The rows of the README's table: name, training file, flags.
ROADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "from scratch": ("molecules", (*SCRATCH, *TAYLOR, "--model=MACE")),
    "from scratch, `ScaleShiftMACE`": ("molecules", (*SCRATCH, *TAYLOR, "--model=ScaleShiftMACE")),
    "from scratch, anchored on a model file": (
        "molecules",
        (*SCRATCH, *TAYLOR, "--weak_anchor={foundation}"),
    ),
    "fine-tuning, energies and forces": ("ethanol_forces", (*FOUNDATION, *TAYLOR)),
    "fine-tuning, energies only": ("ethanol", (*FOUNDATION, *TAYLOR)),
    "fine-tuning, `weak_spatial`": (
        "ethanol",
        (*FOUNDATION, *SPATIAL),
    ),
    "fine-tuning, `weak_piwsl`": ("ethanol", (*FOUNDATION, *BOTH)),
    "multihead replay fine-tuning": ("ethanol", (*REPLAY, *TAYLOR)),
    "Stage Two": ("ethanol", (*FOUNDATION, *TAYLOR, "--swa", "--start_swa=1")),
    "EMA": ("ethanol", (*FOUNDATION, *TAYLOR, "--ema")),
    "L-BFGS": ("ethanol", (*FOUNDATION, *TAYLOR, *LBFGS)),
    "`--lora`": ("ethanol", (*FOUNDATION, *TAYLOR, "--lora=True")),
    "`--freeze`": ("ethanol", (*FOUNDATION, *TAYLOR, "--freeze=5")),
    "schedule-free optimiser": ("ethanol", (*FOUNDATION, *TAYLOR, "--optimizer=schedulefree")),
    "`--default_dtype=float32`": (
        "ethanol",
        (*FOUNDATION, *TAYLOR, "--default_dtype=float32", "--foundation_model={single}"),
    ),
    "HDF5 data": ("packed", (*FOUNDATION, *TAYLOR, "--atomic_numbers=[1, 6, 8]")),
    "data loader workers": ("ethanol", (*FOUNDATION, *TAYLOR, "--num_workers=1")),
    "periodic, `stress`": ("copper", (*SCRATCH, *TAYLOR, "--weak_base_loss=stress")),
    "periodic, `virials`": ("copper", (*SCRATCH, *TAYLOR, "--weak_base_loss=virials")),
    "periodic, `huber`": ("copper", (*SCRATCH, *TAYLOR, "--weak_base_loss=huber")),
    "periodic, `universal`": ("copper", (*SCRATCH, *TAYLOR, "--weak_base_loss=universal")),
    "`l1l2energyforces`": ("molecules", (*SCRATCH, *TAYLOR, "--weak_base_loss=l1l2energyforces")),
    "adversarial displacements": (
        "ethanol_forces",
        (*FOUNDATION, *TAYLOR, "--weak_direction=adversarial"),
    ),
    "expansion of order 0": ("ethanol", (*FOUNDATION, *TAYLOR, "--weak_order=0")),
    "reference labels": ("ethanol_forces", (*FOUNDATION, *TAYLOR, "--weak_labels=reference")),
    **{
        f"tangent anchor, {name}": ("ethanols", (*TANGENT, *flags))
        for name, flags in {
            "energies only": (),
            "`weak_piwsl`": ("--loss=weak_piwsl",),
            "Stage Two": ("--swa", "--start_swa=1"),
            "EMA": ("--ema",),
            "L-BFGS": LBFGS,
            "`--lora`": ("--lora=True",),
            "multihead replay": (
                "--multiheads_finetuning=True",
                "--pt_train_file={molecules}",
            ),
            "`--default_dtype=float32`": (
                "--default_dtype=float32",
                "--foundation_model={single}",
            ),
        }.items()
    },
    "tangent anchor, energies and forces": ("ethanol_forces", TANGENT),
    "tangent anchor, HDF5 data": ("packed", (*TANGENT, "--atomic_numbers=[1, 6, 8]")),
    "`PolarMACE`, from scratch": ("molecules", (*SCRATCH, *BOTH, *POLAR)),
    "`PolarMACE`, from scratch, anchored on a short-range model": (
        "molecules",
        (*SCRATCH, *TAYLOR, *POLAR, "--weak_anchor={foundation}"),
    ),
    "`PolarMACE`, periodic": ("copper", (*SCRATCH, *TAYLOR, *POLAR)),
    "`PolarMACE`, fine-tuning": ("ethanol", (*POLAR_FOUNDATION, *BOTH)),
    "`PolarMACE`, fine-tuning, `--default_dtype=float32`": (
        "ethanol",
        (*POLAR_FOUNDATION, *TAYLOR, "--E0s=foundation", "--default_dtype=float32"),
    ),
    "`PolarMACE`, tangent anchor": ("ethanols", (*POLAR_FOUNDATION, *TANGENT_LOSS)),
    "`MACELES`, from scratch": ("molecules", (*SCRATCH, *BOTH, "--model=MACELES")),
    "`MACELES`, fine-tuning": ("ethanol", (*LATENT_FOUNDATION, *BOTH)),
    "`MACELES`, tangent anchor": ("ethanols", (*LATENT_FOUNDATION, *TANGENT_LOSS)),
    "every second step, half of the structures": (
        "ethanol",
        (*FOUNDATION, *BOTH, "--weak_anchor=none", "--weak_every=2", "--weak_fraction=0.5"),
    ),
}

# Further rows, which need a test of their own.
OTHER_ROADS: dict[str, str] = {
    "order 0 by itself: from scratch, or with few energies for the atoms": (
        "test_loss.py::test_the_default_order_depends_on_the_start_and_the_labels"
    ),
    "`--restart_latest`: goes on as an uninterrupted run": (
        "test_restart.py::test_a_restart_equals_an_uninterrupted_run"
    ),
    "`--distributed`: two gloo processes equal one": (
        "test_distributed.py::test_two_processes_equal_one_on_the_joint_batch"
    ),
    "tangent anchor, `--restart_latest`: goes on with the same solution": (
        "test_restart.py::test_a_restart_equals_an_uninterrupted_run"
    ),
    "tangent anchor, `--distributed`: solved once": (
        "test_distributed.py::test_two_processes_share_one_tangent_model"
    ),
    "tangent anchor, labels that leave the forces open: the foundation model is the anchor": (
        "test_loss.py::test_labels_that_leave_the_forces_open_are_anchored_on_the_foundation"
    ),
    "weight zero: the supervised loss to the bit": (
        "test_loss.py::test_zero_weight_is_the_base_loss_to_the_bit"
    ),
    "Stage Two: follows its energy weight": (
        "test_loss.py::test_stage_two_weighs_by_its_energy_weight"
    ),
    "multihead replay: the replay head takes no weak terms": (
        "test_loss.py::test_the_replay_head_takes_no_weak_terms"
    ),
    "several heads, `--weak_heads`": "test_loss.py::test_chosen_heads_take_the_terms",
    "`mace_run_train`, `python -m mace.cli.run_train`, `torchrun`, the launcher": (
        "test_activation.py::test_every_way_trains_with_the_weak_term"
    ),
    "YAML files": "test_activation.py::test_the_options_are_read_from_yaml",
    "a patched MACE: equal to the bit": "test_patches.py::test_both_routes_give_the_same_losses",
    "`--enable_cueq`, `--enable_oeq`: equal E and F, or refused": (
        "test_accelerated.py::test_a_converted_model_is_trained_or_refused"
    ),
    "models without an energy (dipoles): refused": ("test_bad_input.py::test_bad_input_is_refused"),
}


def supervised(flags: tuple[str, ...]) -> list[str]:
    """The flags of the same run with the supervised loss alone."""
    base = [flag.split("=")[1] for flag in flags if flag.startswith("--weak_base_loss")]
    kept = [flag for flag in flags if not flag.startswith(("--loss", "--weak_"))]
    return [*kept, f"--loss={(base or ['weighted'])[0]}"]


@pytest.fixture(scope="module")
def trained_alone(tmp_path_factory) -> Callable[..., Run]:
    """Runs with the supervised loss alone, which several roads are compared with."""

    @cache
    def run(*flags: str) -> Run:
        return train(tmp_path_factory.mktemp("supervised"), *flags)

    return run


@pytest.fixture
def pair(tmp_path, foundation, files, trained_alone, request) -> tuple[Run, Run]:
    """A weak run of a road, and the same run with the supervised loss alone."""
    name, flags = ROADS[request.param]
    if name == "packed":
        folder = request.getfixturevalue("packed")
        data = [
            f"--train_file={folder}/train.h5",
            f"--valid_file={folder}/valid.h5",
            "--E0s=foundation",
        ]
    else:
        data = [f"--train_file={getattr(files, name)}"]
    single = foundation.with_name("single.model")
    if not single.exists():
        torch.save(torch.load(foundation, weights_only=False).float(), single)
    fills = {"foundation": foundation, "single": single, "molecules": files.molecules}
    for kind, name in {"PolarMACE": "polar", "MACELES": "latent"}.items():
        if f"--model={kind}" in flags:
            fills[name] = request.getfixturevalue(f"{name}_foundation")

    def filled(given: list[str]) -> list[str]:
        return [flag.format(**fills) for flag in given]

    return (
        train(tmp_path / "weak", *filled(list(flags)), *data),
        trained_alone(*filled(supervised(flags)), *data),
    )


@pytest.mark.parametrize("pair", ROADS, indirect=True)
def test_the_weak_term_is_trained_on(pair, request):
    weak, alone = pair
    flags = ROADS[request.node.callspec.params["pair"]][1]
    name = [flag.split("=")[1] for flag in flags if flag.startswith("--loss")][-1]
    tangent = "--weak_anchor=tangent" in flags
    if tangent:
        (kind,) = [flag.split("=")[1] for flag in flags if flag.startswith("--model=")] or [
            "ScaleShiftMACE"
        ]
        assert f"anchor tangent model of a {kind}" in weak.log
    for term in [*loss_terms(name), *([FORCES] if tangent else [])]:
        assert max(step.get(f"loss_{term}", 0.0) for step in weak.steps) > 0
    assert "loss_supervised" not in alone.steps[0]
    assert weak.parameters.shape == alone.parameters.shape
    assert float((weak.parameters - alone.parameters).abs().max()) > 1e-8
    assert all(step["time_weak"] <= step["time"] for step in weak.steps)
    assert "weak part" in weak.log
