"""Errors that a user can correct."""

from collections.abc import Iterator
from contextlib import contextmanager


class WeakLossError(ValueError):
    """Wrong input; the message says in one line what is wrong and how to correct it."""


class NonFiniteWeakLossError(WeakLossError):
    """A weak term became infinite or not a number during training."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program on a ``WeakLossError`` with its one line, instead of a traceback."""
    try:
        yield
    except WeakLossError as error:
        raise SystemExit(f"mace-weak: {error}") from error
