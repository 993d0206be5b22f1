"""The batch scripts, run to the end by a real Slurm on the CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datafiles import QUICKSTART
from finetuning import FEW_STEPS
from forked import SCRIPTS
from readme_commands import batch_calls
from slurm import needs_slurm
from training import Run

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "recipes" / "cluster"
CONFIG = ROOT / "recipes" / "cbs_energy_only" / "finetune.yaml"
ETHANOL, TEST = (QUICKSTART / "data" / f"ethanol_pbe_{name}.xyz" for name in ("train", "test"))
WORKER = Path(__file__).with_name("distributed_worker.py")
SHELL = sorted(path for path in CLUSTER.iterdir() if path.suffix in (".sh", ".slurm", ".pbs"))
FIRST, LATER, LAST = (f"checkpoints/run_run-1_epoch-{epoch}.pt" for epoch in (0, 20, 59))


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder with a ``mace_run_train`` whose processes find each other on the CPU."""
    folder = tmp_path_factory.mktemp("programs")
    program = folder / "mace_run_train"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--distributed*) exec {sys.executable} {WORKER} "$@";; esac\n'
        f'exec {SCRIPTS / "mace_run_train"} "$@"\n'
    )
    program.chmod(0o755)
    return folder


@pytest.fixture
def environment(monkeypatch, programs) -> None:
    """What a job inherits."""
    monkeypatch.setenv("PATH", f"{programs}:{SCRIPTS}", prepend=":")
    monkeypatch.setenv("VENV", "")
    monkeypatch.setenv("DEVICE", "cpu")


@pytest.fixture
def shrunk(files, foundation) -> list[str]:
    """Flags for a training of seconds."""
    return [
        "--name=run",
        f"--foundation_model={foundation}",
        f"--train_file={files.ethanol}",
        "--valid_fraction=0.3",
        "--default_dtype=float64",
        "--batch_size=2",
        "--max_num_epochs=1",
        "--eval_interval=1",
        "--plot=False",
        "--pin_memory=False",
    ]


@pytest.fixture
def submit(cluster, environment, shrunk, tmp_path):
    """Run a script with the shrunk configuration of the recipe; returns its log."""

    def submitted(script: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
        job = cluster.submit(
            CLUSTER / script,
            *arguments,
            *shrunk,
            options=[f"--output={tmp_path}/log", "--cpus-per-task=1", *options],
            cwd=ROOT,
        )
        states = cluster.wait(job)
        log = (tmp_path / "log").read_text()
        assert set(states) == {"COMPLETED"}, log[-3000:]
        return log

    return submitted


SEVERAL = ("several_gpus.slurm", "torchrun.slurm")
SEEDS = "seeds.slurm"
OTHERS = ("nequip.slurm", "finetune.slurm")
CALLS = {name: call for name, call in batch_calls().items() if call.script.name not in OTHERS}
(FINETUNE_CALL,) = (call for call in batch_calls().values() if call.script.name == OTHERS[1])


@needs_slurm
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_calls_of_the_readmes(submit, tmp_path, call):
    """With two processes where there are several, and two seeds."""
    name = call.script.name
    per_node = 1 if "--nodes=2" in call.options else 2
    fewer = [f"--ntasks-per-node={per_node}"] if name == "several_gpus.slurm" else []
    fewer += [f"--gres=gpu:{per_node}"] if name in SEVERAL else []
    fewer += ["--array=1-2"] if name == SEEDS else []
    config, *rest = call.arguments
    folder = tmp_path / "run"
    where = [str(folder)] if name == SEEDS else [*rest, f"--work_dir={folder}"]
    log = submit(name, config, *where, options=(*call.options, *fewer))
    if name == SEEDS:
        one, two = (Run(folder / f"seed-{seed}") for seed in (1, 2))
        assert not torch.equal(one.parameters, two.parameters)
    else:
        assert max(Run(folder).column("loss_taylor")) > 0
        assert ("Processes: 2" in log) == (name in SEVERAL)


@needs_slurm
def test_a_killed_job_goes_on_and_finishes(cluster, environment, shrunk, tmp_path):
    """It comes to the same end as without the kill, but for the epoch that MACE repeats."""
    config = tmp_path / "config.yaml"  # MACE does not restore the moving average
    config.write_text(CONFIG.read_text().replace("ema: true\n", ""))
    flags = [*shrunk, "--max_num_epochs=60", "--batch_size=8"]

    def submitted(name: str) -> str:
        return cluster.submit(
            CLUSTER / "one_gpu.slurm", str(config), *flags, f"--work_dir={tmp_path / name}",
            options=[f"--output={tmp_path / name}.log", "--cpus-per-task=1"], cwd=ROOT,
        )  # fmt: skip

    whole, killed = submitted("whole"), submitted("killed")
    cluster.wait_for(lambda: (tmp_path / "killed" / LATER).exists(), "checkpoints", 120)
    cluster.call("scancel", "--batch", "--signal=USR1", killed)
    cluster.start_again(killed)
    assert cluster.wait(whole) + cluster.wait(killed) == ["COMPLETED"] * 2
    log = (tmp_path / "killed.log").read_text()
    assert log.count("time is nearly over: requeued") == 1
    assert log.count("Training complete") == 1
    start, end, other = (
        parameters(tmp_path / name)
        for name in (f"whole/{FIRST}", f"whole/{LAST}", f"killed/{LAST}")
    )
    assert 0 < float((other - end).norm()) < 0.1 * float((end - start).norm())


@needs_slurm
def test_a_killed_finetuning_goes_on_and_finishes(cluster, environment, foundation, tmp_path):
    """With the call of the README, and few steps."""
    out = tmp_path / "finetuned.model"
    names = {"small": foundation, "train.xyz": ETHANOL, "finetuned.model": out, "test.xyz": TEST}
    words = [str(names.get(word, word)) for word in FINETUNE_CALL.arguments]
    job = cluster.submit(
        FINETUNE_CALL.script, *words, FEW_STEPS, cwd=ROOT,
        options=[f"--output={tmp_path}/log", "--cpus-per-task=1", *FINETUNE_CALL.options],
    )  # fmt: skip
    solution = tmp_path / "finetuned.model.work" / "solution.npz"
    cluster.wait_for(solution.is_file, "the solution", 200)
    solved = solution.stat().st_mtime_ns
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    cluster.start_again(job)
    states = cluster.wait(job)
    log = (tmp_path / "log").read_text()
    assert states == ["COMPLETED"], log[-3000:]
    assert log.count("time is nearly over: requeued") == 1
    assert f"wrote   {out}" in log
    assert solution.stat().st_mtime_ns == solved


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_the_shell_is_clean(script):
    run("bash", "-n", str(script))
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    run("shellcheck", "--external-sources", str(script))


def test_pbs(environment, shrunk, tmp_path, monkeypatch):
    """As PBS calls it; there is no PBS in Debian."""
    monkeypatch.setenv("PBS_O_WORKDIR", str(ROOT))
    monkeypatch.setenv("CONFIG", str(CONFIG))
    monkeypatch.setenv("FLAGS", " ".join([*shrunk, f"--work_dir={tmp_path}/run"]))
    run("bash", str(CLUSTER / "one_gpu.pbs"))
    assert max(Run(tmp_path / "run").column("loss_taylor")) > 0


@pytest.mark.parametrize("named_by", ["flag", "configuration"])
def test_a_broken_checkpoint_is_dropped(environment, tmp_path, named_by):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(f"name: run\nwork_dir: {'.' if named_by == 'flag' else tmp_path}\n")
    flags = f"--work_dir={tmp_path}" if named_by == "flag" else ""
    torch.save({"epoch": 1}, checkpoints / "run_run-1_epoch-1.pt")
    whole = (checkpoints / "run_run-1_epoch-1.pt").read_bytes()
    (checkpoints / "run_run-1_epoch-2.pt").write_bytes(whole[: len(whole) // 2])
    spoilt = whole.replace(b"\x05\x00\x00\x00epoch", b"\x05\x00\x00\x00epocx")
    assert spoilt != whole
    (checkpoints / "run_run-1_epoch-3.pt").write_bytes(spoilt)
    script = f"""
        source {CLUSTER}/training.sh
        DEVICE=cpu training_arguments {config} {flags}
        drop_broken_checkpoints
    """
    said = run("bash", "-euo", "pipefail", "-c", script)
    assert "epoch-2.pt" in said
    assert "epoch-3.pt" in said
    assert [path.name for path in checkpoints.iterdir()] == ["run_run-1_epoch-1.pt"]


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def parameters(checkpoint: Path) -> torch.Tensor:
    state = torch.load(checkpoint, weights_only=False)["model"]
    return torch.cat([value.flatten().double() for value in state.values()])
