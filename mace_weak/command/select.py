"""``mace-weak select``: the structures of a pool whose energies settle its forces best."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from sklearn.cluster import DBSCAN

from mace_weak.command.models import (
    Model,
    Parametric,
    finetuning_host,
    load_model,
    reading,
    require_elements,
)
from mace_weak.command.output import Finding, Result, Table, as_text, progress
from mace_weak.compositions import counts_of, elements_of
from mace_weak.errors import WeakLossError
from mace_weak.structures import (
    evenly,
    is_isolated_atom,
    plain_state_of,
    read_structures,
    require_structures,
)
from mace_weak.tangent.picking import Gradients, Picked, PoolFeatures, pick
from mace_weak.tangent.storage import replacing

MOST = 5000  # candidates
BLOCK = 1000  # structures whose gradients are kept in one file
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
    path: Path, n: int, *, model: str, head: str | None, labelled: Path | None, seed: int,
    device: str, most: int, out: Path,
) -> Result:  # fmt: skip
    """Choose ``n`` structures of a file and write them; what they leave open, and random ones.

    Of more than ``most`` structures, so many at random are candidates. Their gradients are kept
    beside ``out`` until it is written, so that a call that was stopped goes on when repeated.

    Raises:
        WeakLossError: if a file cannot be read, has unknown elements, or too few structures.
    """
    result = Result()
    pool = [(number, atoms) for number, atoms in _numbered(path)]
    require_structures(pool, path)
    require_enough(n, len(pool), f"in '{path}'")
    if n > most:
        raise WeakLossError(f"of {most} candidates, {n} cannot be chosen: raise --candidates")
    generator = np.random.default_rng(seed)
    if len(pool) > most:
        result.notes.append(
            f"{most} random structures of the {len(pool)} are candidates: --candidates changes it."
        )
        places = np.sort(generator.choice(len(pool), most, replace=False))
        pool = [pool[place] for place in places]
    known = [atoms for _, atoms in _numbered(labelled)] if labelled else []
    work = out.with_name(f"{out.name}.gradients")
    with foundation_model(model, head=head, device=device) as saved:
        found = candidates(pool, known, saved, model, seed=seed, work=work)
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
    result = written(path, found.numbers[chosen.numbers[:n]], out, result)
    shutil.rmtree(work)
    return result


def _numbered(path: Path) -> Iterator[tuple[int, Atoms]]:
    """Structures of a file but isolated atoms, with their numbers in it from 0."""
    for number, atoms in enumerate(read_structures(path)):
        if not is_isolated_atom(atoms):
            yield number, atoms


def candidates(
    pool: Sequence[tuple[int, Atoms]],
    known: Sequence[Atoms],
    saved: Model,
    name: str,
    *,
    seed: int,
    work: Path,
) -> Candidates:
    """The pool's structures and the labelled ones, described by the gradients of a model.

    Its ``name`` says which host's it is.
    """
    frames = [*(atoms for _, atoms in pool), *known]
    probed = evenly(range(len(pool)), PROBED)
    parts = list(in_blocks(saved, name, frames, probed, seed=seed, work=work))
    features = PoolFeatures.of(parts, counts_of(frames, elements_of(frames)))
    if not np.any(features.forces):
        raise WeakLossError(
            "no structure has forces, as in cells of one atom: take larger cells, or --method "
            "random"
        )
    count = len(pool)
    allowed = np.ones(len(frames), dtype=bool)
    allowed[count:] = False
    # structures of different formulas are different, also where the shifts explain their energies
    points = np.hstack([projections(features.energies), features.counts])
    first = np.concatenate([points[count:], points[:count]])
    allowed[:count] = ~duplicates(first)[len(known) :]
    return Candidates(np.array([number for number, _ in pool]), features, allowed)


@contextmanager
def foundation_model(model: str, *, device: str, head: str | None = None) -> Iterator[Model]:
    """The model that a fine-tuning would start from."""
    with tempfile.TemporaryDirectory() as folder:
        with reading(model):
            host = finetuning_host(model)
            file = host.save_foundation(model, Path(folder), head=head, device=device)
        yield load_model(str(file), device=device)


def in_blocks(
    saved: Model,
    name: str,
    frames: Sequence[Atoms],
    probed: Sequence[int],
    *,
    seed: int,
    work: Path,
) -> Iterator[Gradients]:
    """Gradients of the structures in their order, and of forces of the ``probed`` ones.

    Raises:
        WeakLossError: if there is an element that the model does not know.
    """
    for atoms in frames:
        require_elements(saved, atoms)
    host = finetuning_host(name)
    same_model = model_digest(host.parametric_model(saved, []))
    starts = range(0, len(frames), BLOCK)
    for place, start in enumerate(starts, start=1):
        block = frames[start : start + BLOCK]
        within = [number - start for number in probed if start <= number < start + BLOCK]
        path = work / f"{block_digest(same_model, block, within, seed)}.npz"
        if path.is_file():
            with np.load(path) as kept:
                yield Gradients(kept["energies"], kept["forces"])
            continue
        which = f", block {place} of {len(starts)}" if len(starts) > 1 else ""
        watch = partial(watched, total=len(block), which=which)
        model = host.parametric_model(saved, block)
        found = Gradients.of(model, probed=set(within), seed=seed, watch=watch)
        work.mkdir(exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, energies=found.energies, forces=found.forces)
        yield found


def watched(steps: Iterable[int], what: str, *, total: int, which: str) -> Iterator[int]:
    """The steps of a block, with a progress bar."""
    return progress(steps, what + which, total=total)


def model_digest(model: Parametric) -> str:
    """A digest of all tensors of a model, which no other model has."""
    digest = hashlib.sha256()
    for name, tensor in model.state.items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def block_digest(model: str, block: Sequence[Atoms], probed: Sequence[int], seed: int) -> str:
    """What the gradients of a block depend on, cells and charges among it."""
    content = [
        [
            atoms.numbers.tolist(), atoms.positions.tolist(), atoms.cell.tolist(),
            atoms.pbc.tolist(),
            plain_state_of(atoms),
        ]
        for atoms in block
    ]  # fmt: skip
    text = json.dumps([model, content, list(probed), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
    free, expected = np.flatnonzero(found.allowed), chosen.left
    most = len(chosen.numbers)

    def at_random() -> list[float]:
        drawn = generator.choice(free, most, replace=False)
        features = found.features.only([*drawn, *found.known])
        known = range(most, len(features.energies))
        return pick(features, most, known=known, order=range(most)).left

    draws = np.array([at_random() for _ in progress(range(DRAWS), "comparing")])
    mean, spread = draws.mean(axis=0), draws.std(axis=0)
    if mean[n] - expected[n] <= spread[n] + ROUNDING:
        result.findings.append(
            Finding(
                f"the choice is no better than a random one: it leaves {as_text(expected[n])} of "
                f"the force error, random ones {as_text(mean[n])} ± {as_text(spread[n])}",
                "choose fewer, or from a pool of more variety",
            )
        )
    counts = sorted({0, max(1, n // 4), max(1, n // 2), n, most})
    rows = [[count, expected[count], float(mean[count]), float(spread[count])] for count in counts]
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
    result.complete = True
    result.notes.append(
        "The structures are written in the order of the pool: pool_index is the number of the "
        "frame there, from 0, selection_order its place in the choice."
    )
    return result
