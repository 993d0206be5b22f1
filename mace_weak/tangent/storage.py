"""A tangent model in a file, so that a run that was stopped goes on with the same solution."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mace_weak.tangent.evidence import Choice
from mace_weak.tangent.fit import Account, Tangent, fit
from mace_weak.tangent.gradients import Coordinates, Model
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.plan import Settings
from mace_weak.tangent.solution import Posterior

DIGITS = 5  # after the point, of eV and eV/Å: labels that differ by less are the same
POSTERIOR = "posterior_"  # in the names of its arrays


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when all is written."""
    partial = path.with_name(f"{path.name}.part")
    yield partial
    os.replace(partial, path)


def fingerprint(model: Model, labels: Labels, settings: Settings) -> str:
    """What a solution depends on: the parameters, the structures, the labels and the settings.

    Labels are relative to the foundation model, whose sums on a GPU differ in their last digits.
    """
    digest = hashlib.sha256()
    for parameter in model.parameters:
        digest.update(parameter.detach().cpu().numpy().tobytes())
    energies = labels.energies.round(DIGITS).tolist()
    forces = [None if one is None else one.round(DIGITS).tolist() for one in labels.forces]
    terms = {**asdict(settings), "memory": None}
    kept = [field.name for field in fields(Posterior)]  # none of an older version is taken
    content = [
        list(model.keys), labels.counts.tolist(), energies, forces, terms, kept
    ]  # fmt: skip
    digest.update(json.dumps(content).encode())
    return digest.hexdigest()


def solved(
    model: Model,
    labels: Labels,
    settings: Settings,
    path: Path,
    *,
    error_bars: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda message: None,
    first: bool = True,
    barrier: Callable[[], object] = lambda: None,
) -> Tangent:
    """The tangent model of the labels: that of the file ``path``, or solved, and kept there.

    Of several processes, which meet at the ``barrier``, the ``first`` solves.

    Raises:
        WeakLossError: if there are too few labels to learn from, or too many, or no forces.
    """
    mark = fingerprint(model, labels, settings)
    if not first:
        barrier()
    tangent = load(path, model.parameters, mark)
    if tangent is None or (error_bars and tangent.posterior is None):
        say(f"solving for the tangent model of {labels.count} labels")
        tangent, _ = fit(model, labels, settings, error_bars=error_bars, progress=progress)
        if first:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, tangent, mark)
    else:
        say(f"the tangent model is that of {path}")
    if first:
        barrier()
    return tangent


def save(path: Path, tangent: Tangent, mark: str) -> None:
    """Write a tangent model to a file of NumPy's (.npz), which holds numbers and text alone.

    ``mark`` is the fingerprint of what it was solved from.
    """
    active = tangent.coordinates.active.cpu().numpy()
    content: dict[str, Any] = {
        "active": np.packbits(active),
        "n_parameters": len(active),
        "change": tangent.change.cpu().numpy(),
        "shifts": tangent.shifts,
        "account": json.dumps(asdict(tangent.account)),
        "mark": mark,
    }
    if tangent.posterior is not None:
        arrays = tangent.posterior.content()
        content |= {f"{POSTERIOR}{name}": value for name, value in arrays.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **content)


def load(path: Path, parameters: Sequence[Tensor], mark: str) -> Tangent | None:
    """The tangent model in a file; None if it is absent or was solved from something else.

    ``parameters`` are those of the foundation model, in float64.
    """
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as content:
        if str(content["mark"]) != mark:
            return None
        numbers = {name: content[name] for name in ("active", "change", "shifts")}
        n_parameters = int(content["n_parameters"])
        account = json.loads(str(content["account"]))
        arrays = {
            name.removeprefix(POSTERIOR): content[name]
            for name in content
            if name.startswith(POSTERIOR)
        }
        posterior = Posterior.from_content(arrays) if arrays else None
    device = parameters[0].device
    bits = np.unpackbits(numbers["active"], count=n_parameters).astype(bool)
    active = torch.from_numpy(bits).to(device)
    coordinates = Coordinates.of(parameters, active)
    choice = Choice(**account.pop("choice"))
    change = torch.from_numpy(numbers["change"]).to(device)
    account = Account(choice=choice, **account)
    return Tangent(coordinates, change, numbers["shifts"], account, posterior)
