"""The files that a case trains and tests on: structures with the labels that its method sees."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from mace_weak.structures import bare, label_value
from recipes.benchmark.benchmark_cases import Case, Foundation, Source

ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
VALID_FRACTION = 0.1  # MACE wants some; nothing is chosen by them


@dataclass(frozen=True)
class Files:
    """Training and validation files of a case, and how many structures the first has."""

    train: Path
    valid: Path
    n_train: int


def coldest(frames: list[Atoms]) -> list[Atoms]:
    """The half of lower energy."""
    return by_energy(frames)[: len(frames) // 2]


def hottest(frames: list[Atoms]) -> list[Atoms]:
    """The tenth of highest energy."""
    return by_energy(frames)[-len(frames) // 10 :]


def by_energy(frames: list[Atoms]) -> list[Atoms]:
    return sorted(frames, key=lambda atoms: float(atoms.info[ENERGY] / len(atoms)))


PARTS: dict[str, Callable[[list[Atoms]], list[Atoms]]] = {
    "": list,
    "coldest": coldest,
    "hottest": hottest,
}


def frames_of(source: Source, shared: Path, *, forces_needed: bool) -> list[Atoms]:
    """The structures of a source with its labels under MACE's keys, and nothing else.

    Raises:
        SystemExit: if one lacks its energy, or the forces that are needed.
    """
    frames = []
    for atoms in read(source.path(shared), source.index):
        frame = bare(atoms)
        frame.info[ENERGY] = label_value(atoms, source.energy_key)
        if frame.info[ENERGY] is None:
            raise SystemExit(f"a structure of {source.file} has no energy '{source.energy_key}'")
        forces, stress = (
            label_value(atoms, source.forces_key),
            label_value(atoms, source.stress_key),
        )
        if forces is not None:
            frame.arrays[FORCES] = forces
        elif forces_needed:
            raise SystemExit(f"a structure of {source.file} has no forces '{source.forces_key}'")
        if stress is not None:
            frame.info[STRESS] = np.asarray(stress).reshape(-1)
        frames.append(frame)
    return PARTS[source.part](frames)


def chosen(frames: list[Atoms], case: Case) -> tuple[list[Atoms], list[Atoms]]:
    """As many structures as the case asks for, chosen by its seed: to train on and for validation.

    Of those chosen one in ten is for validation.
    """
    if case.structures > len(frames):
        raise SystemExit(f"{case.data} has {len(frames)} structures, not {case.structures}")
    picked = np.random.default_rng(case.seed).permutation(len(frames))[: case.structures]
    n_valid = max(1, round(VALID_FRACTION * case.structures))
    train, valid = picked[n_valid:], picked[:n_valid]
    return [frames[index] for index in train], [frames[index] for index in valid]


def seeing(atoms: Atoms, labels: Sequence[str]) -> Atoms:
    """The structure with these labels alone."""
    frame = bare(atoms)
    frame.info.update({key: atoms.info[key] for key in labels if key in atoms.info})
    for key in labels:
        if key in atoms.arrays:
            frame.arrays[key] = atoms.arrays[key]
    return frame


@dataclass(frozen=True)
class View:
    """The labels that a method sees: of each, and more of the one of highest energy per atom.

    With ``alone`` it sees no other structure, and validates on it.
    """

    of_each: tuple[str, ...]
    of_highest: tuple[str, ...] = ()
    alone: bool = False

    @property
    def needs_forces(self) -> bool:
        return FORCES in (*self.of_each, *self.of_highest)

    def files(self, train: list[Atoms], valid: list[Atoms]) -> tuple[list[Atoms], list[Atoms]]:
        """What it sees of the structures to train on and of those for validation."""
        highest = max(train, key=lambda atoms: atoms.info[ENERGY] / len(atoms))
        more = seeing(highest, (*self.of_each, *self.of_highest))
        if self.alone:
            return [more], [more]
        seen = [more if atoms is highest else seeing(atoms, self.of_each) for atoms in train]
        return seen, [seeing(atoms, self.of_each) for atoms in valid]


LABELS = {
    "energies": View((ENERGY,)),
    "energies, forces": View((ENERGY, FORCES)),
    "energies, forces of one": View((ENERGY,), of_highest=(FORCES,)),
    "one with forces": View((ENERGY, FORCES), alone=True),
}


def write_files(folder: Path, pool: list[Atoms], case: Case, labels: str) -> Files:
    """The training and validation files of a case."""
    train, valid = LABELS[labels].files(*chosen(pool, case))
    stem = f"{case.data}-{case.structures}-{case.seed}"
    return Files(
        train=write_named(folder, f"{stem}-train", train),
        valid=write_named(folder, f"{stem}-valid", valid),
        n_train=len(train),
    )


def with_file(source: Foundation, name: str, *, shared: Path, folder: Path) -> Foundation:
    """A foundation model whose training set is one file; in ``folder``, if only a part is used."""
    path = source.train.path(shared)
    if source.train != Source(source.train.file):
        frames = frames_of(source.train, shared, forces_needed=True)
        path = write_named(folder, f"foundation-{name}", frames)
    return replace(source, train=Source(str(path)))


def some_of(path: Path, count: int, folder: Path, seed: int) -> Path:
    """A file in ``folder`` with ``count`` random structures of another."""
    frames = read(path, ":")
    picked = np.random.default_rng(seed).permutation(len(frames))[:count]
    return write_named(folder, f"{path.stem}-{count}-{seed}", [frames[index] for index in picked])


def write_named(folder: Path, name: str, frames: list[Atoms]) -> Path:
    """Write structures to a file of ``folder`` named after ``name`` and its content."""
    text = io.StringIO()
    write(text, frames, format="extxyz")
    digest = hashlib.sha256(text.getvalue().encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{digest}.xyz"
    path.write_text(text.getvalue())
    return path
