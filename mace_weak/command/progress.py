"""Progress of what takes long, on the standard error, so that the output stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


@contextmanager
def counter(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is told how many more are done."""
    with _bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def progress(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """``items``, with a bar where a person looks on."""
    with _bar() as bar:
        yield from bar.track(items, total=total, description=what)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
