"""The READMEs say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from commands import trained
from datafiles import CONFIGURATIONS
from forked import run_program
from omegaconf import OmegaConf
from readme import updated
from readme_commands import calls, users_folder
from readme_tables import NEQUIP, require_tests
from roads import OTHER_ROADS
from training import CUTOFF, ETHANOL_SHIFTS, LOSSES, MODULES, base_config

from mace_weak.command.propose import per_type
from mace_weak.losses import LOSSES as TABLE
from mace_weak.nequip import train


def test_the_tables_are_up_to_date():
    for path, text in updated().items():
        assert path.read_text() == text, "run make readme"


def test_the_other_roads_have_their_tests():
    require_tests(Path(__file__).parent, OTHER_ROADS)


def test_the_losses_and_modules_of_the_readme_are_there():
    named = set(re.findall(r"mace_weak\.nequip\.train\.(\w+)", NEQUIP.read_text()))
    assert named == set(train.__all__)
    rows = [line for line in NEQUIP.read_text().splitlines() if line.startswith("| `weak_")]
    losses = {row.split("`")[1]: row for row in rows if ".nequip.train." in row}
    assert list(losses) == list(TABLE)
    for name, row in losses.items():
        assert f"`{LOSSES[name]}`" in row
        assert getattr(train, LOSSES[name].rpartition(".")[2]).name == name
    for own, weak in MODULES.items():
        assert issubclass(getattr(train, weak.rpartition(".")[2]), host_module(own))


def host_module(path: str) -> type:
    import nequip.train

    return getattr(nequip.train, path.rpartition(".")[2])


CALLS = calls("nequip-train")
SHRUNK = (
    f"cutoff={CUTOFF}", f"shifts={per_type(ETHANOL_SHIFTS)}", "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
)  # fmt: skip


@pytest.mark.parametrize("words", CALLS.values(), ids=CALLS)
def test_the_calls_run(tmp_path, monkeypatch, words, files, foundation):
    """With a small foundation, on the CPU, and shrunk; the last model is that of the last epoch."""
    scratch = "nequip_scratch" in words
    folder = users_folder(tmp_path, files.ethanol_forces if scratch else files.ethanol)
    (folder / "config.yaml").symlink_to(CONFIGURATIONS / "nequip_finetune.yaml")
    monkeypatch.chdir(folder)
    overrides = [word.replace("$PWD", str(folder)) for word in words]
    overrides += [f"train_file={folder}/train.xyz", *SHRUNK, f"hydra.run.dir={folder}/run"]
    overrides += [] if scratch else [f"package={foundation}"]
    done = run_program("nequip-train", *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = torch.load(folder / "run" / "last.ckpt", weights_only=False)
    assert last["epoch"] == 1


def test_the_configuration_of_the_readme_trains(tmp_path, files, foundation):
    """As it stands, with its blanks filled, shrunk to two epochs, and with a log to look at."""
    block = NEQUIP.read_text().split("<!-- nequip config -->")[1].split("```yaml\n")[1]
    config = OmegaConf.create(block.split("```")[0])
    trainer = base_config(files.ethanol)["trainer"]
    config.merge_with(
        {
            "package": str(foundation),
            "train_file": str(files.ethanol),
            "shifts": ETHANOL_SHIFTS,
            "cutoff": CUTOFF,
            "trainer": {"max_epochs": 2, "logger": trainer["logger"], "log_every_n_steps": 1},
        }
    )
    run = trained(tmp_path, OmegaConf.to_container(config))
    assert max(run.column("weak_taylor")) > 0
    assert (tmp_path / "best.ckpt").exists()
