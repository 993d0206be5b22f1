"""The rows of a data set, whole or sketched where they would not fit in memory.

A row has as many features as the model has parameters. A sketch adds each feature, with a random
sign, to one of fewer places (Charikar, Chen and Farach-Colton, Theor. Comput. Sci. 312, 3 (2004)),
which keeps inner products on the average, with a relative spread of some √(2/places). What is
solved with sketched rows is a tangent model too, whose parameters change together in random groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mace_weak.errors import WeakLossError

PLACES_PER_ROW = 8  # at least: then lengths in the space of the rows are kept within a third
NUMBER = 8  # bytes


@dataclass(frozen=True)
class Sketch:
    """Where each feature of a row goes, and with which sign: (n_active,) both."""

    places: Tensor
    signs: Tensor
    size: int

    @classmethod
    def of(cls, like: Tensor, *, size: int, seed: int) -> Sketch:
        """For rows as ``like`` (n_active,); those of a seed are the same on every machine."""
        stream = np.random.RandomState(seed)  # its stream never changes, by NumPy's promise
        places = torch.from_numpy(stream.randint(size, size=len(like)))
        signs = torch.from_numpy(2.0 * stream.randint(2, size=len(like)) - 1.0)
        return cls(places.to(like.device), signs.to(like), size)

    def __call__(self, rows: Tensor) -> Tensor:
        """Of rows (n_rows, n_active): (n_rows, size)."""
        result = rows.new_zeros(len(rows), self.size)
        return result.index_add_(1, self.places, rows * self.signs)

    def transposed(self, sketched: Tensor) -> Tensor:
        """The features (n_active,) whose product with any row is that of ``sketched`` (size,)."""
        return sketched[self.places] * self.signs


@dataclass(frozen=True)
class Rows:
    """All rows of a data set (n_rows, n_features), by a ``sketch`` if there is one."""

    values: Tensor
    sketch: Sketch | None

    @classmethod
    def of(
        cls,
        make: Callable[[int], Tensor],
        sizes: Sequence[int],
        like: Tensor,
        *,
        limit: float,
        seed: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Rows:
        """``make`` gives the rows (sizes[k], n_active) of the k-th structure; ``like`` is one row.

        ``limit`` is the memory in bytes that they may take.

        Raises:
            WeakLossError: if even a sketch would take more.
        """
        sketch = sketch_within(limit, sum(sizes), like, seed=seed)
        values = like.new_empty(sum(sizes), sketch.size if sketch else len(like))
        place = 0
        for number, size in enumerate(sizes):
            made = make(number)
            values[place : place + size] = sketch(made) if sketch else made
            place += size
            progress(1)
        return cls(values, sketch)

    def gram(self) -> Tensor:
        """All inner products (n_rows, n_rows), float64, on the CPU."""
        return (self.values @ self.values.T).cpu()

    def combined(self, weights: Tensor) -> Tensor:
        """The sum of all rows with ``weights`` (n_rows,): (n_active,)."""
        total = self.values.T @ weights.to(self.values)
        return self.sketch.transposed(total) if self.sketch else total


def sketch_within(limit: float, n_rows: int, like: Tensor, *, seed: int) -> Sketch | None:
    """The sketch of rows as ``like`` that fit into ``limit`` bytes; None if they do as they are.

    Raises:
        WeakLossError: if none does.
    """
    places = int(limit / NUMBER / max(1, n_rows))
    if places >= len(like):
        return None
    fewest = min(PLACES_PER_ROW * n_rows, len(like))
    if places < fewest:
        raise WeakLossError(
            f"the {n_rows} rows of the closed form need {NUMBER * n_rows * fewest / 1e9:.2g} GB, "
            f"and may take {limit / 1e9:.2g}: allow more memory, or take fewer labels"
        )
    return Sketch.of(like, size=places, seed=seed)
