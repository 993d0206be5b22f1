"""The READMEs say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from commands import trained
from omegaconf import OmegaConf
from readme import updated
from readme_tables import README, require_tests
from test_roads import OTHER_ROADS
from training import CUTOFF, LOSSES, MODULES, base_config

from mace_weak.losses import LOSS_TERMS
from mace_weak.nequip import train


def test_the_tables_are_up_to_date():
    for path, text in updated().items():
        assert path.read_text() == text, "run make readme"


def test_the_other_roads_have_their_tests():
    require_tests(Path(__file__).parent, OTHER_ROADS)


def test_the_losses_and_modules_of_the_readme_are_there():
    named = set(re.findall(r"mace_weak\.nequip\.train\.(\w+)", README.read_text()))
    assert named == set(train.__all__) - {"LOSS_CLASSES"}
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `weak_")]
    losses = {row.split("`")[1]: row for row in rows if ".nequip.train." in row}
    assert list(losses) == list(LOSS_TERMS)
    for name, row in losses.items():
        assert f"`{LOSSES[name]}`" in row
        assert getattr(train, LOSSES[name].rpartition(".")[2]).name == name
    for own, weak in MODULES.items():
        assert issubclass(getattr(train, weak.rpartition(".")[2]), host_module(own))


def host_module(path: str) -> type:
    import nequip.train

    return getattr(nequip.train, path.rpartition(".")[2])


def test_the_configuration_of_the_readme_trains(tmp_path, files, foundation):
    """As it stands, with its blanks filled, shrunk to two epochs, and with a log to look at."""
    block = README.read_text().split("<!-- nequip config -->")[1].split("```yaml\n")[1]
    config = OmegaConf.create(block.split("```")[0])
    trainer = base_config(files.ethanol)["trainer"]
    config.merge_with(
        {
            "package": str(foundation),
            "train_file": str(files.ethanol),
            "shifts": {"H": -467.0, "C": -467.0, "N": 0.0, "O": -467.0},
            "cutoff": CUTOFF,
            "trainer": {"max_epochs": 2, "logger": trainer["logger"], "log_every_n_steps": 1},
        }
    )
    run = trained(tmp_path, OmegaConf.to_container(config))
    assert max(run.column("weak_taylor")) > 0
    assert (tmp_path / "best.ckpt").exists()
