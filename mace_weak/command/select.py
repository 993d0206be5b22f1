"""``mace-weak select``: the structures of a pool whose energies settle its forces best."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from sklearn.cluster import DBSCAN

from mace_weak.command.hosts import finetuning_host
from mace_weak.command.models import load_model, reading, require_elements
from mace_weak.command.output import Finding, Result, Table, as_text, progress
from mace_weak.errors import WeakLossError
from mace_weak.structures import evenly, is_isolated_atom, read_structures
from mace_weak.tangent.picking import Picked, PoolFeatures, pick, pool_features

MOST = 5000  # candidates
PROBED = 500  # structures whose forces are to be settled, evenly out of the pool
DRAWS = 20  # random choices to compare with
PROJECTIONS = 8  # by which copies are found
SAME = 1e-4  # distance of projections that are one, where the whole pool's spread is 1
NAMED = 10  # frames that a finding names
ROUNDING = 1e-9
AHEAD = 2  # times the number of structures, up to which the table goes
COLUMNS = ("structures", "chosen", "random, mean", "random, spread")


@dataclass(frozen=True)
class Candidates:
    """Structures to choose from, by their ``numbers`` in the file, and those that are labelled.

    ``allowed`` (n_frames,) is false for these, and for copies of them or of earlier structures.
    """

    numbers: np.ndarray
    features: PoolFeatures
    allowed: np.ndarray

    @property
    def known(self) -> range:
        """Places of the labelled ones in the features."""
        return range(len(self.numbers), len(self.features.energies))


def select_at_random(path: Path, n: int, *, seed: int, out: Path) -> Result:
    """Choose ``n`` structures of a file at random and write them.

    Raises:
        WeakLossError: if the file cannot be read, or has too few structures.
    """
    frames = [number for number, _ in _numbered(path)]
    require_enough(n, len(frames), f"in '{path}'")
    chosen = np.random.default_rng(seed).choice(frames, n, replace=False)
    return written(path, chosen, out, Result())


def select_for_forces(
    path: Path, n: int, *, model: str, labelled: Path | None, seed: int, device: str, most: int,
    out: Path,
) -> Result:  # fmt: skip
    """Choose ``n`` structures of a file and write them; what they leave open, and random ones.

    Of more than ``most`` structures, so many at random are candidates.

    Raises:
        WeakLossError: if a file cannot be read, has unknown elements, or too few structures.
    """
    result = Result()
    pool = [(number, atoms) for number, atoms in _numbered(path)]
    if not pool:
        raise WeakLossError(f"'{path}' has only isolated atoms: name a file of structures")
    generator = np.random.default_rng(seed)
    if len(pool) > most:
        result.notes.append(
            f"{most} random structures of the {len(pool)} are candidates: --candidates changes it."
        )
        places = np.sort(generator.choice(len(pool), most, replace=False))
        pool = [pool[place] for place in places]
    known = [atoms for _, atoms in _numbered(labelled)] if labelled else []
    found = candidates(pool, known, model=model, seed=seed, device=device)
    available = int(found.allowed.sum())
    require_enough(n, available, "that differ, labelled ones left out")
    # one by one, so that the first of more are the choice of fewer
    most_chosen = min(AHEAD * n, available)
    chosen = pick(
        found.features, most_chosen, known=found.known, allowed=found.allowed, watch=progress
    )
    result.tables.append(forces_table(found, n, chosen, generator, result))
    copies = found.numbers[~found.allowed[: len(found.numbers)]]
    result.findings += repeated(copies)
    return written(path, found.numbers[chosen.numbers[:n]], out, result)


def _numbered(path: Path) -> Iterator[tuple[int, Atoms]]:
    """Structures of a file but isolated atoms, with their numbers in it from 0."""
    for number, atoms in enumerate(read_structures(path)):
        if not is_isolated_atom(atoms):
            yield number, atoms


def candidates(
    pool: Sequence[tuple[int, Atoms]],
    known: Sequence[Atoms],
    *,
    model: str,
    seed: int,
    device: str,
) -> Candidates:
    """The pool's structures and the labelled ones, described by a foundation model's gradients."""
    frames = [*(atoms for _, atoms in pool), *known]
    host = finetuning_host(model)
    with tempfile.TemporaryDirectory() as folder:
        with reading(model):
            file = host.save_foundation(model, Path(folder), head=None, device=device)
        saved = load_model(str(file), device=device)
        for atoms in frames:
            require_elements(saved, atoms)
        parametric = host.parametric_model(saved, frames)
        features = pool_features(
            parametric, parametric.counts, probed=evenly(range(len(pool)), PROBED), seed=seed,
            watch=progress,
        )  # fmt: skip
    count = len(pool)
    allowed = np.ones(len(frames), dtype=bool)
    allowed[count:] = False
    first = np.concatenate([features.energies[count:], features.energies[:count]])
    allowed[:count] = ~duplicates(projections(first))[len(known) :]
    return Candidates(np.array([number for number, _ in pool]), features, allowed)


def projections(rows: np.ndarray) -> np.ndarray:
    """A few projections (n_rows, n) of rows, whose mean squared distance from their mean is 1."""
    if len(rows) < 2:
        return np.ones((len(rows), 1))
    axes = np.random.default_rng(0).normal(size=(rows.shape[1], PROJECTIONS))
    points = (rows - rows.mean(axis=0)) @ axes
    scale = np.sqrt(np.mean(np.sum(points**2, axis=1)))
    return points / scale if scale > 0 else points


def duplicates(points: np.ndarray) -> np.ndarray:
    """Whether each point (n_points, d) is the same as an earlier one, (n_points,)."""
    result = np.ones(len(points), dtype=bool)
    groups = DBSCAN(eps=SAME, min_samples=1, algorithm="kd_tree").fit_predict(points)
    result[np.unique(groups, return_index=True)[1]] = False
    return result


def forces_table(
    found: Candidates, n: int, chosen: Picked, generator: np.random.Generator, result: Result
) -> Table:
    """Force errors to expect, over the foundation model's, against the number of structures."""
    free, own = np.flatnonzero(found.allowed), chosen.left
    most = len(chosen.numbers)

    def at_random() -> list[float]:
        order = generator.choice(free, most, replace=False).tolist()
        return pick(found.features, most, known=found.known, order=order).left

    draws = np.array([at_random() for _ in progress(range(DRAWS), "comparing")])
    mean, spread = draws.mean(axis=0), draws.std(axis=0)
    if mean[n] - own[n] <= spread[n] + ROUNDING:
        result.findings.append(
            Finding(
                f"the choice is no better than a random one: it leaves {as_text(own[n])} of the "
                f"force error, random ones {as_text(mean[n])} ± {as_text(spread[n])}",
                "choose fewer, or from a pool of more variety",
            )
        )
    counts = sorted({0, max(1, n // 4), max(1, n // 2), n, most})
    rows = [[count, own[count], float(mean[count]), float(spread[count])] for count in counts]
    return Table("Force error to expect, over the foundation model's", COLUMNS, rows)


def require_enough(n: int, available: int, which: str) -> None:
    """Check that ``n`` structures can be chosen.

    Raises:
        WeakLossError: if not.
    """
    if n > available:
        raise WeakLossError(
            f"there are {available} structures {which}, not {n}: lower --n, or add to the pool"
        )


def repeated(frames: np.ndarray) -> Iterator[Finding]:
    """Structures, by their numbers in the file, that the model takes for others."""
    if len(frames):
        named = ", ".join(map(str, frames[:NAMED])) + (", …" if len(frames) > NAMED else "")
        yield Finding(
            f"{len(frames)} structures are the same as another for the model, labelled or earlier "
            f"in the pool, and were not chosen: frames {named}",
            "remove them if they are copies; if not, use a model that distinguishes them",
        )


def written(path: Path, frames: np.ndarray, out: Path, result: Result) -> Result:
    """Write structures of a file to another, with their place in it and in the choice."""
    order = {int(frame): place for place, frame in enumerate(frames)}
    found = []
    for number, atoms in enumerate(progress(read_structures(path), f"reading {path.name}")):
        if number in order:
            atoms.info |= {"pool_index": number, "selection_order": order[number]}
            found.append(atoms)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, found, format="extxyz")
    result.written.append(out)
    result.notes.append(
        "The structures are written in the order of the pool: pool_index is the number of the "
        "frame there, from 0, selection_order its place in the choice."
    )
    return result
