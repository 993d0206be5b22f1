"""Bad use of the subcommands ends in one line, before anything is computed."""

from __future__ import annotations

import pytest
from console import mace_weak
from datafiles import HOSTS
from misread_files import FILES, LABELLED, written

NOWHERE = "/proc/absent/out"
MODEL = "no.ckpt" if HOSTS["mace"] is None else "no.model"  # of the host that is here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "no.model", LABELLED, f"--out={NOWHERE}"), "cannot be written"),
        (("select", LABELLED, "--n=2", f"--out={NOWHERE}/chosen.xyz"), "cannot be written"),
        (("select", LABELLED, "--n=2", "--out=chosen.traj"), "name it .xyz"),
        (("report", LABELLED, f"--out={NOWHERE}/report.png"), "cannot be written"),
        (("finetune", MODEL, LABELLED, f"--out={NOWHERE}"), "cannot be written"),
        (("evaluate", "no.model", LABELLED, "--forces-key=absent"), "has the forces 'absent'"),
        (("evaluate", "no.model", LABELLED, "--dtype=float16"), "float16"),
        (("evaluate", "no.model", LABELLED, "--temperature=-5"), "--temperature"),
        (("evaluate", "no.model", LABELLED, "--device=nowhere"), "torch cannot compute there"),
    ],
)
def test_what_cannot_work_is_refused_first(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = mace_weak(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "no.model" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_the_host_that_is_not_here_is_refused_by_its_name(tmp_path):
    model = "no.model" if HOSTS["mace"] is None else "no.ckpt"
    done = mace_weak("finetune", model, LABELLED, f"--out={tmp_path / 'tuned'}")
    assert done.returncode == 2
    assert "which is not installed here" in " ".join(done.stderr.split())


def test_a_name_that_ase_would_split_is_refused(tmp_path):
    path = written(tmp_path, "a position that is none").rename(tmp_path / "pbe@300K.xyz")
    done = mace_weak("check", path)
    assert done.returncode == 2
    assert "has an @ in its name" in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["check", "select", "evaluate"])
def test_a_position_that_is_none_is_named_by_file_and_structure(tmp_path, command):
    path = written(tmp_path, "a position that is none")
    others = {
        "check": [path],
        "select": [path, "--n=2", "--method=random", f"--out={tmp_path / 'chosen.xyz'}"],
        "evaluate": ["no.model", path, f"--out={tmp_path / 'page'}"],
    }[command]
    done = mace_weak(command, *others)
    assert done.returncode == 2
    assert FILES["a position that is none"][2] in " ".join(done.stderr.split())
    assert str(path) in "".join(done.stderr.split())
    assert "Traceback" not in done.stderr
