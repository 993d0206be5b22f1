"""The declarative list of cases, and the files that each needs."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import read, write

HERE = Path(__file__).parent
SHARED = "shared/"


@dataclass(frozen=True)
class Case:
    """One training: what varies over a set of cases. All are fine-tunings on energies alone."""

    data: str
    loss: str
    structures: int
    lr: float
    steps: int
    seed: int

    @property
    def title(self) -> str:
        return " ".join(str(value) for value in asdict(self).values())


@dataclass(frozen=True)
class Plan:
    """The content of ``cases.yaml``."""

    data: dict[str, dict[str, dict[str, str]]]
    losses: dict[str, dict[str, Any]]
    sets: dict[str, dict[str, list[Any]]]

    @classmethod
    def read(cls, path: Path) -> Plan:
        return cls(**yaml.safe_load(path.read_text()))

    def with_data(self, train: str, test: str, *, energy: str, forces: str) -> Plan:
        """The same plan on two files of the user's."""
        keys = {"energy_key": energy, "forces_key": forces}
        files = {"train": Path(train).resolve(), "test": Path(test).resolve()}
        own = {name: {"file": str(path), **keys} for name, path in files.items()}
        sets = {name: {**lists, "data": ["own"]} for name, lists in self.sets.items()}
        return Plan({"own": own}, self.losses, sets)

    def cases(self, name: str) -> Iterator[Case]:
        """All combinations of the lists of a set.

        Raises:
            SystemExit: if there is no such set.
        """
        if name not in self.sets:
            raise SystemExit(f"there is no set '{name}': the sets are {', '.join(self.sets)}")
        lists = self.sets[name]
        names = [field.name for field in fields(Case)]
        for values in itertools.product(*(lists[key] for key in names)):
            yield Case(**dict(zip(names, values, strict=True)))


def located(file: str, shared: Path) -> Path:
    """Where a file of ``cases.yaml`` lies."""
    if file.startswith(SHARED):
        return shared / file.removeprefix(SHARED)
    return (HERE / file).resolve()


def frames_of(source: dict[str, str], shared: Path, *, forces: bool) -> list[Atoms]:
    """The structures of a file with their labels under MACE's keys, and no others."""
    found = read(located(source["file"], shared), source.get("index", ":"))
    frames = []
    for atoms in found:
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info["REF_energy"] = label(atoms, source.get("energy_key", "REF_energy"))
        if forces:
            frame.arrays["REF_forces"] = label(atoms, source.get("forces_key", "REF_forces"))
        frames.append(frame)
    return frames


def label(atoms: Atoms, key: str) -> Any:
    """A label by its key, wherever ASE put it.

    Raises:
        KeyError: if it is not there.
    """
    results = atoms.calc.results if atoms.calc is not None else {}
    for place in (atoms.info, atoms.arrays, results):
        if key in place:
            return place[key]
    raise KeyError(f"a structure has no '{key}'")


def chosen(frames: list[Atoms], case: Case) -> list[Atoms]:
    """As many structures as the case asks for, chosen by its seed."""
    if case.structures > len(frames):
        raise SystemExit(f"{case.data} has {len(frames)} structures, not {case.structures}")
    picked = np.random.default_rng(case.seed).permutation(len(frames))[: case.structures]
    return [frames[index] for index in sorted(picked)]


def write_named(folder: Path, name: str, frames: list[Atoms]) -> Path:
    """Write structures to a file of ``folder`` named after ``name`` and its content."""
    text = io.StringIO()
    write(text, frames, format="extxyz")
    digest = hashlib.sha256(text.getvalue().encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{digest}.xyz"
    path.write_text(text.getvalue())
    return path
