"""A choice of structures from a pool, its worth against random choice, and its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase.io import write

from mace_weak.command.frames import isolated, read_frames
from mace_weak.command.models import Model
from mace_weak.command.output import Finding, Result, Table, as_text
from mace_weak.command.progress import progress
from mace_weak.command.selecting.designs import DETERMINANT, TRACE, information_means, optimal
from mace_weak.command.selecting.pools import Pool, described
from mace_weak.command.selecting.spaces import farthest
from mace_weak.errors import WeakLossError

DRAWS = 100  # random choices to compare with
COVERAGE_DRAWS = 10  # of these, those whose coverage is measured, which takes longer
NAMED = 10  # frames that a finding names

RANDOM, FARTHEST = "random", "farthest"
CRITERIA = {"d-optimal": DETERMINANT, "a-optimal": TRACE}
MEASURES = ("D-efficiency", "A-efficiency", "largest distance")
AIMS = {"d-optimal": 0, "a-optimal": 1, FARTHEST: 2}  # which measure a method makes good


def require_new(out: Path, *, inputs: Sequence[Path], overwrite: bool) -> None:
    """Check that a file may be written.

    Raises:
        WeakLossError: if it is an input, or exists and is not to be overwritten.
    """
    if out.resolve() in [path.resolve() for path in inputs]:
        raise WeakLossError(f"'{out}' is read, and would be lost: name another --out")
    if out.exists() and not overwrite:
        raise WeakLossError(f"'{out}' exists: name another --out, or add --overwrite")


def require_sensible(method: str, *, described: bool, labelled: bool) -> None:
    """Check that there are descriptors if they are needed.

    Raises:
        WeakLossError: if there are not.
    """
    if not described and (labelled or method != RANDOM):
        needs = "--labelled" if labelled else f"--method {method}"
        raise WeakLossError(f"{needs} needs descriptors: name a --model")


def selected(
    path: Path,
    n: int,
    *,
    model: Model | None,
    labelled: Path | None,
    method: str,
    seed: int,
    out: Path,
) -> Result:
    """Choose ``n`` structures of a file and write them; the choice against random ones.

    Raises:
        WeakLossError: if a file cannot be read, has unknown elements, or too few structures.
    """
    result = Result()
    generator = np.random.default_rng(seed)
    if model:
        pool = described(model, path, labelled=labelled)
        places = chosen(pool, n, method, generator)
        frames = pool.frames[places]
        compare(result, pool, places, method, np.random.default_rng([seed, 1]))
    else:
        frames = blindly(path, n, generator)
    write_selection(path, frames, out)
    result.written.append(out)
    result.notes.append(
        "The structures are written in the order of the pool: pool_index is the number of the "
        "frame there, from 0, selection_order its place in the choice."
    )
    return result


def chosen(pool: Pool, n: int, method: str, generator: np.random.Generator) -> np.ndarray:
    """Places (n,) in the pool of the structures that a method chooses, in its order.

    Raises:
        WeakLossError: if there are too few.
    """
    allowed = ~pool.repeated
    require_enough(n, int(allowed.sum()), "with descriptors that no other or labelled one has")
    if method == RANDOM:
        return generator.choice(np.flatnonzero(allowed), n, replace=False)
    if method == FARTHEST:
        points, known = pool.space.points(pool.rows), pool.space.points(pool.labelled)
        return farthest(points, n, labelled=known, allowed=allowed)
    return optimal(
        pool.rows,
        n,
        known=pool.information,
        criterion=CRITERIA[method],
        allowed=allowed,
        watch=progress,
    )


def blindly(path: Path, n: int, generator: np.random.Generator) -> np.ndarray:
    """Numbers (n,) of random structures in a file, whose descriptors are unknown."""
    frames = [number for number, atoms in enumerate(read_frames(path)) if not isolated(atoms)]
    require_enough(n, len(frames), f"in '{path}'")
    return generator.choice(frames, n, replace=False)


def require_enough(n: int, available: int, which: str) -> None:
    """Check that ``n`` structures can be chosen.

    Raises:
        WeakLossError: if not.
    """
    if n > available:
        raise WeakLossError(
            f"there are {available} structures {which}, not {n}: lower --n, or add to the pool"
        )


def compare(
    result: Result, pool: Pool, places: np.ndarray, method: str, generator: np.random.Generator
) -> None:
    """Add the worth of a choice against random ones, and what is wrong with it or the pool."""
    allowed = np.flatnonzero(~pool.repeated)
    draws = [generator.choice(allowed, len(places), replace=False) for _ in range(DRAWS)]
    known = pool.information
    means = np.array([information_means(pool.rows[draw], known) for draw in draws])
    unit = means.mean(axis=0)
    far = [pool.coverage(draw) for draw in progress(draws[:COVERAGE_DRAWS], "comparing")]
    efficiencies = np.array(information_means(pool.rows[places], known)) / unit
    own = [*efficiencies.tolist(), pool.coverage(places)]
    usual = [1.0, 1.0, float(np.mean(far))]
    spread = [*(means.std(axis=0) / unit).tolist(), float(np.std(far))]
    pool_row = [
        len(pool.rows), int(pool.repeated.sum()), len(pool.labelled), pool.n_features,
        len(pool.space.shares),
    ]  # fmt: skip
    columns = ("structures", "repeated", "labelled", "features", "components")
    result.tables.append(Table("Pool", columns, [pool_row]))
    compared = {method: own, "random, mean": usual, "random, spread": spread}
    rows = [[name, len(places), *values] for name, values in compared.items()]
    result.tables.append(Table("Choice", ("method", "structures", *MEASURES), rows))
    result.findings += no_better(method, own, usual, spread)
    result.findings += repeated(pool)


def no_better(
    method: str, own: Sequence[float], usual: Sequence[float], spread: Sequence[float]
) -> Iterator[Finding]:
    """Whether a design is within the spread of random choices at its own aim."""
    if method not in AIMS:
        return
    aim = AIMS[method]
    better = usual[aim] - own[aim] if method == FARTHEST else own[aim] - usual[aim]
    if better <= spread[aim]:
        yield Finding(
            f"{method} is no better than random choice: {MEASURES[aim]} "
            f"{as_text(own[aim])}, random {as_text(usual[aim])} ± {as_text(spread[aim])}",
            "choose fewer, or from a pool of more variety",
        )


def repeated(pool: Pool) -> Iterator[Finding]:
    """Structures that have the descriptors of others."""
    frames = pool.frames[pool.repeated]
    if len(frames):
        named = ", ".join(map(str, frames[:NAMED])) + (", …" if len(frames) > NAMED else "")
        yield Finding(
            f"{len(frames)} structures have the descriptors of another, labelled or earlier in the "
            f"pool, and were not chosen: frames {named}",
            "remove them if they are copies; if not, take a model that tells them apart",
        )


def write_selection(path: Path, frames: np.ndarray, out: Path) -> None:
    """Write structures of a file to another, with their place in it and in the choice."""
    order = {int(frame): place for place, frame in enumerate(frames)}
    found = []
    for number, atoms in enumerate(progress(read_frames(path), f"reading {path.name}")):
        if number in order:
            atoms.info |= {"pool_index": number, "selection_order": order[number]}
            found.append(atoms)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, found, format="extxyz")
