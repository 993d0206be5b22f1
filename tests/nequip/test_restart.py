"""A restart from a checkpoint goes on exactly as an uninterrupted run would."""

from __future__ import annotations

import pytest
import torch
from roads import Start
from training import MODULES, changed, train, weak_config

# the restarted run writes elsewhere, so that both stay to be compared
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
WEAK = {"weak_every": 2, "weak_taylor_weight": 100, "weak_spatial_weight": 100}


@pytest.mark.parametrize("module", MODULES)
def test_a_restart_equals_an_uninterrupted_run(tmp_path, finetune, module):
    optimizer = {"_target_": "torch.optim.Adam", "lr": 0.01}
    if "ScheduleFree" in module:
        optimizer["_target_"] = "schedulefree.AdamWScheduleFree"
    config = changed(
        finetune,
        training_module___target_=module,
        training_module__optimizer=optimizer,
        trainer__max_epochs=4,
    )
    config = weak_config(config, "weak_piwsl", **WEAK)
    whole = train(tmp_path / "whole", config)
    again = train(tmp_path / "again", config, f"++ckpt_path={whole.checkpoint_of(1)}")
    later = [step for step in whole.steps if step["epoch"] >= 2]
    assert again.steps == later
    assert max(step["weak_taylor"] for step in later) > 0
    torch.testing.assert_close(again.parameters, whole.parameters, rtol=0, atol=0)


def test_a_restart_of_a_restart_is_still_weak(tmp_path, finetune):
    """The second checkpoint was written by a module that was loaded from the first."""
    config = weak_config(changed(finetune, trainer__max_epochs=3), weak_taylor_weight=100)
    first = train(tmp_path / "first", config)
    second = train(tmp_path / "second", config, f"++ckpt_path={first.checkpoint_of(0)}")
    third = train(tmp_path / "third", config, f"++ckpt_path={second.checkpoint_of(1)}")
    assert third.steps == [step for step in first.steps if step["epoch"] == 2]
    assert max(third.column("weak_taylor")) > 0


def test_a_plain_run_goes_on_plain_and_says_so(tmp_path, finetune, caplog):
    """nequip takes the loss from the checkpoint, whatever the configuration says."""
    plain = changed(finetune, trainer__max_epochs=2)
    first = train(tmp_path / "first", plain)
    restart = f"++ckpt_path={first.checkpoint_of(0)}"
    second = train(tmp_path / "second", weak_config(plain, weak_taylor_weight=100), restart)
    assert "weak_taylor" not in second.steps[0]
    assert "is of a run without a weak loss, and ckpt_path goes on without one" in caplog.text


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty:UserWarning")
def test_a_restart_keeps_the_tangent_model(tmp_path, files, foundation, foundation_checkpoint):
    """It stands beside the checkpoints, and another folder solves for the same one."""
    start = Start(files, foundation, foundation_checkpoint)
    config = weak_config(
        changed(start.settled(), trainer__max_epochs=3), weak_anchor="tangent", weak_every=2
    )
    whole = train(tmp_path / "whole", config)
    (tmp_path / "again" / "checkpoints").mkdir(parents=True)
    solution = whole.checkpoint.with_name("tangent.npz")
    kept = tmp_path / "again" / "checkpoints" / solution.name
    kept.write_bytes(solution.read_bytes())
    before = kept.stat().st_mtime_ns
    again = train(tmp_path / "again", config, f"++ckpt_path={whole.checkpoint_of(0)}")
    assert kept.stat().st_mtime_ns == before
    assert again.steps == [step for step in whole.steps if step["epoch"] >= 1]
    assert max(again.column("weak_forces")) > 0
    torch.testing.assert_close(again.parameters, whole.parameters, rtol=0, atol=0)
