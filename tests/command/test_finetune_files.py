"""The work folder of ``mace-weak finetune``."""

from __future__ import annotations

import errno
import fcntl
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mace_weak.command import finetune
from mace_weak.command.arguments import usable
from mace_weak.command.error_bars import file_of
from mace_weak.command.finetune_files import open_work
from mace_weak.command.output import Finding, Result
from mace_weak.errors import WeakLossError


@pytest.fixture
def work(tmp_path):
    return open_work(tmp_path / "tuned.model", inputs=[], overwrite=False)


def test_a_file_system_without_locks_is_no_other_process(monkeypatch, tmp_path):
    """As Lustre is mounted on some clusters."""

    def unavailable(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unavailable)
    assert open_work(tmp_path / "tuned.model", inputs=[], overwrite=False).folder.is_dir()


def test_what_a_killed_trainer_left_half_written_is_removed(work):
    (work.folder / "checkpoints").mkdir()
    whole, half, product = (
        work.folder / name
        for name in ("checkpoints/epoch-1.pt", "checkpoints/epoch-2.pt", "finetuned.model")
    )
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("data", "weights" * 100)
    for path in (half, product):
        path.write_bytes(whole.read_bytes()[:200])
    (work.folder / "lessons.xyz").write_text("1\n")
    work.drop_broken()
    left = [path.name for path in work.folder.rglob("*") if path.is_file()]
    assert sorted(left) == ["epoch-1.pt", "lessons.xyz", "lock"]


@pytest.mark.parametrize(("complete", "status"), [(False, 1), (True, 0)])
def test_findings_are_no_failure_where_the_model_is_there(complete, status):
    assert Result(findings=[Finding("few labels", "add some")], complete=complete).status == status


def test_a_numbered_gpu_is_refused_before_work_starts():
    with pytest.raises(WeakLossError, match=r"CUDA_VISIBLE_DEVICES=1 and give --device=cuda"):
        usable("cuda:1")


def test_a_call_that_is_stopped_before_its_error_bars_leaves_no_model(work, monkeypatch):
    """So that it goes on when it is repeated."""
    out = work.folder.with_name("tuned.model")
    host = SimpleNamespace(save_product=lambda folder, path, shifts: path.write_text("model"))
    request = SimpleNamespace(out=out, device="cpu")
    finetuning = finetune.Finetuning(request, work, host, Path(), None, None)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "save_error_bars", stopped)
    with pytest.raises(KeyboardInterrupt):
        finetuning.finish({}, None, tangent=object())
    assert not out.exists()

    def saved(path, *_, **__):
        file_of(path).write_text("bars")
        return file_of(path)

    monkeypatch.setattr(finetune, "save_error_bars", saved)
    assert finetuning.finish({}, None, tangent=object()) == [out, file_of(out)]
    assert (out.read_text(), file_of(out).read_text()) == ("model", "bars")
    assert finetuning.finish({}, None, tangent=None) == [out]
    assert not file_of(out).exists()


def test_the_foundation_model_is_not_overwritten(tmp_path):
    model = tmp_path / "foundation.model"
    model.write_text("model")
    with pytest.raises(WeakLossError, match="is an input and would be overwritten"):
        open_work(model, inputs=[model], overwrite=True)
