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
COPIES = 4  # displaced ones of each structure
EXPANSION_LENGTH = 0.01  # Å, rms displacement of an atom; at 0.03 Å the curvature left out harms
NOISE_LENGTH = 0.05  # Å, rms displacement of an atom that is to be predicted
NOISE_FORCE = 20.0  # eV/Å², so that the noise reads as forces of 1 eV/Å
NOISE_WEIGHT = 1e-7  # of them in the loss, so that both heads weigh alike at the start

Relabel = Callable[[Sequence[Atoms], np.random.Generator], list[Atoms]]


@dataclass(frozen=True)
class Files:
    """Training and validation files of a case, and how many structures the first has.

    ``extra`` is a training file of another head, with ``n_extra`` structures.
    """

    train: Path
    valid: Path
    n_train: int
    extra: Path | None = None
    n_extra: int = 0


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


def seeing(*kept: str) -> Relabel:
    """A function that keeps these labels of structures."""

    def relabelled(frames: Sequence[Atoms], generator: np.random.Generator) -> list[Atoms]:
        result = []
        for atoms in frames:
            frame = bare(atoms)
            frame.info.update({key: atoms.info[key] for key in kept if key in atoms.info})
            for key in kept:
                if key in atoms.arrays:
                    frame.arrays[key] = atoms.arrays[key]
            result.append(frame)
        return result

    return relabelled


def displacements(
    atoms: Atoms, count: int, *, length: float, generator: np.random.Generator
) -> np.ndarray:
    return generator.normal(scale=length / 3**0.5, size=(count, len(atoms), 3))


def expanded(frames: Sequence[Atoms], generator: np.random.Generator) -> list[Atoms]:
    """The structures and displaced copies, all with energies.

    A copy has E(S) − ⟨F(S), d⟩ (Cooper et al., npj Comput. Mater. 6, 54 (2020)).
    """
    result = seeing(ENERGY)(frames, generator)
    for atoms in frames:
        for step in displacements(atoms, COPIES, length=EXPANSION_LENGTH, generator=generator):
            copy = bare(atoms)
            copy.positions += step
            copy.info[ENERGY] = atoms.info[ENERGY] - float(np.sum(atoms.arrays[FORCES] * step))
            result.append(copy)
    return result


def noisy(frames: Sequence[Atoms], generator: np.random.Generator) -> list[Atoms]:
    """Displaced structures whose forces point back, and no energies: the noise to predict."""
    result = []
    for atoms in frames:
        for step in displacements(atoms, COPIES, length=NOISE_LENGTH, generator=generator):
            copy = bare(atoms)
            copy.positions += step
            copy.arrays[FORCES] = -NOISE_FORCE * step
            copy.info["config_forces_weight"] = NOISE_WEIGHT
            result.append(copy)
    return result


@dataclass(frozen=True)
class View:
    """What a method sees of the labels, in training, validation and perhaps in another head."""

    train: Relabel
    valid: Relabel
    extra: Relabel | None = None
    needs_forces: bool = False


ENERGIES = seeing(ENERGY)
LABELS = {
    "energies": View(ENERGIES, ENERGIES),
    "energies, stress": View(seeing(ENERGY, STRESS), seeing(ENERGY, STRESS)),
    "energies, forces": View(seeing(ENERGY, FORCES), seeing(ENERGY, FORCES), needs_forces=True),
    "expansions": View(expanded, ENERGIES, needs_forces=True),
    "energies, noise": View(ENERGIES, ENERGIES, extra=noisy),
}


def write_files(folder: Path, pool: list[Atoms], case: Case, labels: str) -> Files:
    """The training and validation files of a case."""
    own_train, own_valid = chosen(pool, case)
    generator = np.random.default_rng(case.seed)
    view = LABELS[labels]
    stem = f"{case.data}-{case.structures}-{case.seed}"
    train = view.train(own_train, generator)
    valid = view.valid(own_valid, generator)
    extra = view.extra(own_train, generator) if view.extra else []
    return Files(
        train=write_named(folder, f"{stem}-train", train),
        valid=write_named(folder, f"{stem}-valid", valid),
        n_train=len(train),
        extra=write_named(folder, f"{stem}-extra", extra) if extra else None,
        n_extra=len(extra),
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
