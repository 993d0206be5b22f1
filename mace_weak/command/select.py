"""``mace-weak select``: a choice of structures from a pool, compared with random choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from mace_weak.command.descriptor_space import Space, duplicates, farthest, nearest_distances
from mace_weak.command.designs import DETERMINANT, TRACE, information_means, optimal
from mace_weak.command.models import Model, require_elements
from mace_weak.command.output import Finding, Result, Table, as_text, progress
from mace_weak.errors import WeakLossError
from mace_weak.structures import in_batches, is_isolated_atom, read_structures

BATCH_STRUCTURES, BATCH_ATOMS = 64, 2000  # whose descriptors are computed at once
DRAWS = 100  # random choices to compare with
COVERAGE_DRAWS = 10  # of these, those whose coverage is measured, which takes longer
NAMED = 10  # frames that a finding names

RANDOM, FARTHEST = "random", "farthest"
CRITERIA = {"d-optimal": DETERMINANT, "a-optimal": TRACE}
MEASURES = ("D-efficiency", "A-efficiency", "largest distance")
AIMS = {"d-optimal": 0, "a-optimal": 1, FARTHEST: 2}  # which measure a method optimises


@dataclass(frozen=True)
class Pool:
    """Structures to choose from.

    ``frames`` (n,) are their numbers in the file, ``rows`` (n, p) those of the design, ``labelled``
    (m, p) those of labelled structures. ``repeated`` (n,) is true where another structure, labelled
    or earlier, has the same descriptors, which have ``n_features``.
    """

    frames: np.ndarray
    rows: np.ndarray
    labelled: np.ndarray
    repeated: np.ndarray
    space: Space
    n_features: int

    @property
    def information(self) -> np.ndarray:
        """What is known before the choice (p, p)."""
        return self.space.prior + self.labelled.T @ self.labelled

    def coverage(self, chosen: np.ndarray) -> float:
        """Largest distance of a structure to the nearest one that is chosen or labelled.

        Where the root of the pool's mean squared distance from its centre is 1.
        """
        centres = self.space.points(np.concatenate([self.rows[chosen], self.labelled]))
        return float(nearest_distances(self.space.points(self.rows), centres).max())


def describe(model: Model, path: Path, *, labelled: Path | None) -> Pool:
    """The pool in a file, with structures of another file that have labels.

    Raises:
        WeakLossError: if a file cannot be read, or the model cannot describe a structure.
    """
    known = descriptors(model, labelled)[1] if labelled else None
    frames, features = descriptors(model, path)
    space = Space.of(features)
    rows = space.rows(features)
    others = space.rows(features[:0] if known is None else known)
    points = space.points(np.concatenate([others, rows]))
    return Pool(frames, rows, others, duplicates(points)[len(others) :], space, features.shape[1])


def descriptors(model: Model, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n,) and descriptors (n, n_features) of the structures in a file.

    Isolated atoms are left out: they are no choice for labelling.

    Raises:
        WeakLossError: if an element is unknown to the model, or descriptors are not finite.
    """
    numbers: list[int] = []
    features: list[np.ndarray] = []
    for batch in batches(path):
        for number, atoms in batch:
            require_elements(model, atoms)
            numbers.append(number)
        features.append(model.descriptors([atoms for _, atoms in batch]).astype(np.float32))
        wrong = np.flatnonzero(~np.isfinite(features[-1]).all(axis=1))
        if len(wrong):
            raise WeakLossError(
                f"structure {batch[wrong[0]][0]} of '{path}' (counted from 0) has descriptors "
                "that are not finite: check its positions, or remove it"
            )
    if not numbers:
        raise WeakLossError(f"'{path}' has only isolated atoms: name a file of structures")
    return np.array(numbers), np.concatenate(features)


def batches(path: Path) -> Iterator[list[tuple[int, Atoms]]]:
    """The structures of a file, but isolated atoms, with their numbers in it from 0."""
    frames = enumerate(progress(read_structures(path), f"describing {path.name}"))
    structures = (one for one in frames if not is_isolated_atom(one[1]))
    return in_batches(
        structures,
        most_atoms=BATCH_ATOMS,
        most_items=BATCH_STRUCTURES,
        n_atoms=lambda one: len(one[1]),
    )


def require_descriptors(method: str, *, model: str | None, labelled: Path | None) -> None:
    """Check that there is a model for the descriptors if they are needed.

    Raises:
        WeakLossError: if there is none.
    """
    if model is None and (labelled or method != RANDOM):
        needs = "--labelled" if labelled else f"--method {method}"
        raise WeakLossError(f"{needs} needs a foundation model: name a --model")


def select_structures(
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
        pool = describe(model, path, labelled=labelled)
        places = choose(pool, n, method, generator)
        frames = pool.frames[places]
        compare(result, pool, places, method, np.random.default_rng([seed, 1]))
    else:
        frames = at_random(path, n, generator)
    write_selection(path, frames, out)
    result.written.append(out)
    result.notes.append(
        "The structures are written in the order of the pool: pool_index is the number of the "
        "frame there, from 0, selection_order its place in the choice."
    )
    return result


def choose(pool: Pool, n: int, method: str, generator: np.random.Generator) -> np.ndarray:
    """Places (n,) in the pool of the structures that a method chooses, in its order.

    Raises:
        WeakLossError: if there are too few.
    """
    allowed = ~pool.repeated
    require_enough(n, int(allowed.sum()), "with different descriptors, labelled ones left out")
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


def at_random(path: Path, n: int, generator: np.random.Generator) -> np.ndarray:
    """Numbers (n,) of random structures in a file, without descriptors."""
    frames = [
        number for number, atoms in enumerate(read_structures(path)) if not is_isolated_atom(atoms)
    ]
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
    """Add a choice compared with random ones, and findings about it and the pool."""
    allowed = np.flatnonzero(~pool.repeated)
    draws = [generator.choice(allowed, len(places), replace=False) for _ in range(DRAWS)]
    known = pool.information
    means = np.array([information_means(pool.rows[draw], known) for draw in draws])
    unit = means.mean(axis=0)
    far = [pool.coverage(draw) for draw in progress(draws[:COVERAGE_DRAWS], "comparing")]
    efficiencies = np.array(information_means(pool.rows[places], known)) / unit
    chosen = [*efficiencies.tolist(), pool.coverage(places)]
    usual = [1.0, 1.0, float(np.mean(far))]
    spread = [*(means.std(axis=0) / unit).tolist(), float(np.std(far))]
    pool_row = [
        len(pool.rows), int(pool.repeated.sum()), len(pool.labelled), pool.n_features,
        len(pool.space.shares),
    ]  # fmt: skip
    columns = ("structures", "repeated", "labelled", "features", "components")
    result.tables.append(Table("Pool", columns, [pool_row]))
    compared = {method: chosen, "random, mean": usual, "random, spread": spread}
    rows = [[name, len(places), *values] for name, values in compared.items()]
    result.tables.append(Table("Choice", ("method", "structures", *MEASURES), rows))
    result.findings += not_better(method, chosen, usual, spread)
    result.findings += repeated(pool.frames[pool.repeated])


def not_better(
    method: str, chosen: Sequence[float], usual: Sequence[float], spread: Sequence[float]
) -> Iterator[Finding]:
    """A design that is within the spread of random choices in the measure that it optimises."""
    if method not in AIMS:
        return
    aim = AIMS[method]
    better = usual[aim] - chosen[aim] if method == FARTHEST else chosen[aim] - usual[aim]
    if better <= spread[aim]:
        yield Finding(
            f"{method} is no better than random choice: {MEASURES[aim]} "
            f"{as_text(chosen[aim])}, random {as_text(usual[aim])} ± {as_text(spread[aim])}",
            "choose fewer, or from a pool of more variety",
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


def write_selection(path: Path, frames: np.ndarray, out: Path) -> None:
    """Write structures of a file to another, with their place in it and in the choice."""
    order = {int(frame): place for place, frame in enumerate(frames)}
    found = []
    for number, atoms in enumerate(progress(read_structures(path), f"reading {path.name}")):
        if number in order:
            atoms.info |= {"pool_index": number, "selection_order": order[number]}
            found.append(atoms)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, found, format="extxyz")
