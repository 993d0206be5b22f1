"""Which structures to label: optimal designs of a model linear in components of descriptors.

Rows represent structures; the model is linear in them, with a normal prior on its coefficients.
The information of a choice S is M = K + Σ_S x xᵀ, where K is what is known before: the prior, and
the structures that are labelled already. D-optimal is the choice of largest det M, A-optimal that
of smallest tr M⁻¹. They are found one by one and then exchanged: Fedorov, *Theory of Optimal
Experiments* (1972), each chosen one in turn as in Cook and Nachtsheim, Technometrics 22, 315
(1980). For potentials: Barzdajn and Race, *Optimal design of experiments in the context of
machine-learning inter-atomic potentials*, arXiv:2405.08636 (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mace_weak.command.descriptor_space import BLOCK

PASSES = 10  # of exchange, at most
BETTER = 1e-9  # of a gain, by which an exchange must be better: less is rounding

Watch = Callable[[range, str], Iterable[int]]


class Information:
    """M⁻¹ (p, p), and what it makes of each row x (n_rows, p).

    ``variances`` are xᵀM⁻¹x and ``squares`` |M⁻¹x|², (n_rows,) each.
    """

    def __init__(self, rows: np.ndarray, matrix: np.ndarray) -> None:
        self.rows = rows
        self.inverse = np.linalg.inv(matrix)
        self.variances, self.squares = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            products = rows[block] @ self.inverse
            self.variances[block] = np.einsum("np,np->n", products, rows[block])
            self.squares[block] = np.einsum("np,np->n", products, products)

    def changed(
        self, index: int, sign: int, of: np.ndarray | slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """The variances and squares of some rows if one is added to M (1) or taken away (−1).

        By the formula of Sherman and Morrison.
        """
        step, factor = self._step(index, sign)
        along, across = (self.rows[of] @ np.stack([step, self.inverse @ step], axis=1)).T
        part = factor * along
        squares = self.squares[of] - 2 * part * across + part**2 * (step @ step)
        return self.variances[of] - part * along, squares

    def change(self, index: int, sign: int) -> None:
        """Add a row to M (1) or take it away (−1)."""
        step, factor = self._step(index, sign)
        self.variances, self.squares = self.changed(index, sign, slice(None))
        self.inverse -= factor * np.outer(step, step)

    def _step(self, index: int, sign: int) -> tuple[np.ndarray, float]:
        step = self.inverse @ self.rows[index]
        return step, sign / (1 + sign * float(step @ self.rows[index]))


@dataclass(frozen=True)
class Criterion:
    """What the information is to be good for.

    ``gain`` (n,) is what a row would gain, from its variances and squares; the larger the better.
    ``bound`` (n_rows,) is the most that each would gain after the row of an index is taken away.
    """

    gain: Callable[[np.ndarray, np.ndarray], np.ndarray]
    bound: Callable[[Information, int], np.ndarray]


def _determinant_bound(information: Information, index: int) -> np.ndarray:
    return information.variances / (1 - information.variances[index])


def _trace_bound(information: Information, index: int) -> np.ndarray:
    variance, square = information.variances[index], information.squares[index]
    more = np.sqrt(information.variances * variance * square) / (1 - variance)
    return (np.sqrt(information.squares) + more) ** 2 / (1 + information.variances)


# a row multiplies det M by 1 + its variance, and takes its square / (1 + variance) from tr M⁻¹
DETERMINANT = Criterion(lambda variances, _: variances, _determinant_bound)
TRACE = Criterion(lambda variances, squares: squares / (1 + variances), _trace_bound)


def optimal(
    rows: np.ndarray,
    count: int,
    *,
    known: np.ndarray,
    criterion: Criterion,
    allowed: np.ndarray,
    passes: int = PASSES,
    watch: Watch = lambda steps, _: steps,
) -> np.ndarray:
    """Indices (count,) of the rows (n_rows, p) that one by one gain most, then exchanged.

    ``known`` (p, p) is the information before, ``allowed`` (n_rows,) is true for rows that may be
    chosen. A row that is exchanged leaves its place in the order to the better one. ``watch`` may
    show the progress of a loop, whose name it gets.
    """
    information = Information(rows, known)
    free = allowed.copy()
    chosen: list[int] = []
    for _ in watch(range(count), "choosing"):
        gains = criterion.gain(information.variances, information.squares)
        chosen.append(int(np.argmax(np.where(free, gains, -np.inf))))
        information.change(chosen[-1], 1)
        free[chosen[-1]] = False
    for _ in range(passes):
        before = chosen.copy()
        information = Information(rows, known + rows[chosen].T @ rows[chosen])  # without rounding
        for place in watch(range(count), "exchanging"):
            chosen[place] = _exchanged(information, chosen[place], criterion, free)
        if chosen == before:
            break
    return np.array(chosen, dtype=int)


def _exchanged(information: Information, old: int, criterion: Criterion, free: np.ndarray) -> int:
    """The best row in place of a chosen one, or that one; keeps account of what is free."""
    here = np.array([old])
    present = criterion.gain(*information.changed(old, -1, here))[0] * (1 + BETTER)
    others = np.flatnonzero(free & (criterion.bound(information, old) > present))
    if not len(others):
        return old
    gains = criterion.gain(*information.changed(old, -1, others))
    if gains.max() <= present:
        return old
    new = int(others[np.argmax(gains)])
    information.change(old, -1)
    information.change(new, 1)
    free[old], free[new] = True, False
    return new


def information_means(rows: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Of the eigenvalues of M: the geometric mean, (det M)^(1/p), and the harmonic, p / tr M⁻¹.

    Their ratios between two designs are the D-efficiency and the A-efficiency.
    """
    values = np.linalg.eigvalsh(known + rows.T @ rows)
    return float(np.exp(np.log(values).mean())), float(1 / (1 / values).mean())
