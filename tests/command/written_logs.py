"""Logs of both hosts as they may lie in a folder."""

from __future__ import annotations

import csv
import json

from mace_weak.command.logs import read_trainings
from mace_weak.command.report import findings


def step(epoch, loss, **parts):
    return {"mode": "opt", "epoch": epoch, "loss": loss, "time": 2.0, **parts}


def weak_step(epoch, supervised, taylor):
    parts = {"loss_supervised": supervised, "loss_taylor": taylor, "time_weak": 0.5}
    return step(epoch, supervised + taylor, **parts)


def evaluation(epoch, loss, head="Default"):
    return {
        "mode": "eval", "epoch": epoch, "loss": loss, "head": head,
        "rmse_e_per_atom": loss / 10, "rmse_f": None,
    }  # fmt: skip


def write_mace(folder, rows, *, log="", settings="max_num_epochs=3, other=1", tag="run_run-1"):
    for name in ("results", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "results" / f"{tag}_train.txt").write_text(text)
    (folder / "logs" / f"{tag}.log").write_text(log)
    (folder / "logs" / f"{tag}_debug.log").write_text(f"Namespace({settings})")
    return folder


def write_nequip(folder, rows, *, version="version_0", settings="trainer:\n  max_epochs: 3\n"):
    path = folder / "lightning_logs" / version / "metrics.csv"
    for each in (path.parent, folder / ".hydra"):
        each.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list({name: 0 for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    (folder / ".hydra" / "config.yaml").write_text(settings)
    return folder


def nequip_epoch(epoch, loss, **parts):
    columns = {f"train_loss_epoch/{name}": value for name, value in parts.items()}
    return {"epoch": epoch, "step": 0, "train_loss_epoch/weighted_sum": loss, **columns}


def read_one(path):
    (training,), _ = read_trainings([path])
    return training


def problems(path) -> str:
    return "\n".join(finding.problem for finding in findings(read_one(path)))


THREE = [evaluation(None, 9.0)] + [
    row
    for epoch in range(3)
    for row in (weak_step(epoch, 5.0 - epoch, 0.1), weak_step(epoch, 3.0 - epoch, 0.3),
                evaluation(epoch, 4.0 - epoch))
]  # fmt: skip
