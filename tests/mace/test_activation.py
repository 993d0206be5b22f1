"""The ways to reach the losses from MACE's command lines, and to opt out of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from commands import command, trained
from forked import SCRIPTS, run_program
from training import arguments, train

CONSOLE = [str(SCRIPTS / "mace_run_train")]
MODULE = [sys.executable, "-m", "mace.cli.run_train"]
LAUNCHER = [sys.executable, "-m", "mace_weak.mace"]
TORCHRUN = [str(SCRIPTS / "torchrun"), "--nproc-per-node=1", "--standalone", "-m", MODULE[-1]]


@pytest.fixture
def flags(finetune_flags) -> list[str]:
    return [*finetune_flags, "--loss=weak_taylor"]


@pytest.mark.parametrize(
    ("program", "environment"),
    [
        (CONSOLE, {}),
        (MODULE, {}),
        (TORCHRUN, {}),
        (LAUNCHER, {}),
        (LAUNCHER, {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}),
        (LAUNCHER, {"MACE_WEAK_ACTIVATE": "0"}),
    ],
    ids=["mace_run_train", "python -m", "torchrun", "launcher", "no autoload", "opted out"],
)
def test_every_way_trains_with_the_weak_term(tmp_path, flags, program, environment):
    run = trained(tmp_path, program, *flags, **environment)
    assert max(run.column("loss_taylor")) > 0
    assert torch.isfinite(run.parameters).all()


def test_the_options_are_read_from_yaml(tmp_path, flags):
    config = tmp_path / "config.yaml"
    config.write_text(
        "loss: weak_piwsl\nweak_taylor_weight: 3\nweak_every: 2\nweak_heads: Default\n"
        "weak_schedule: constant\n"
    )
    run = train(tmp_path / "run", *flags[:-1], f"--config={config}")
    assert "taylor 3, spatial 1.25 at the start" in run.log
    assert "loss_taylor" in run.steps[0]
    assert "loss_taylor" not in run.steps[1]


def test_opting_out_leaves_mace_as_it_was(tmp_path, flags):
    done = command(tmp_path, CONSOLE, *flags, MACE_WEAK_ACTIVATE="0")
    assert done.returncode == 2
    assert "invalid choice: 'weak_taylor'" in done.stderr


def test_a_refusal_is_one_line_on_the_command_line(tmp_path, flags):
    done = run_program("mace_run_train", *arguments(tmp_path, *flags, "--weak_every=0"))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("mace-weak: ")]
    assert lines == ["mace-weak: weak_every must be a whole number of at least 1, not '0'"]
    assert "Traceback" not in done.stderr


def output_of(program: str, *, warnings: str = "error") -> str:
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_script_that_imports_mace_before_torch_has_the_losses():
    program = (
        "import sys; from mace.tools import build_default_arg_parser, check_args, evaluate, train\n"
        "parser = build_default_arg_parser()\n"
        "flags = ['--name=run', '--train_file=train.xyz', '--loss=weak_taylor']\n"
        "print(parser.parse_args(flags).loss, type(check_args) == type(evaluate) == type(train))"
    )
    assert output_of(program, warnings="ignore").splitlines()[-1] == "weak_taylor True"


def test_importing_torch_brings_in_neither_mace_nor_the_adapter():
    program = (
        "import sys, torch; print([name for name in sys.modules if name == 'mace' or "
        "name.startswith('mace.') or name == 'mace_weak.mace.wrappers'])"
    )
    assert output_of(program) == "[]"


def test_a_failing_activation_does_not_break_torch():
    program = (
        "import sys; sys.modules['wrapt'] = None; import torch; print(torch.zeros(2).tolist())"
    )
    assert output_of(program) == "[0.0, 0.0]"


def test_the_core_imports_no_host():
    program = (
        "import sys, pkgutil, importlib, mace_weak\n"
        "for module in pkgutil.iter_modules(mace_weak.__path__):\n"
        "    if not module.ispkg: importlib.import_module('mace_weak.' + module.name)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('mace', 'nequip', 'ase')])"
    )
    assert output_of(program) == "[]"
