"""The output of a subcommand: tables and findings, or JSON; its exit status; progress bars."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

from mace_weak.errors import WeakLossError

SUCCESS, FINDING, USAGE_ERROR = 0, 1, 2

WIDE = 160  # columns, where the output is not a terminal

Value = str | int | float | bool | None
Item = TypeVar("Item")


@dataclass(frozen=True)
class Table:
    """Rows of values under named columns; numbers stay numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]  # of Value

    def records(self) -> list[dict[str, Value]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Finding:
    """A problem, and how to solve it; data that are ``wrong`` must not be trained on."""

    problem: str
    mend: str
    wrong: bool = False


@dataclass
class Result:
    """Of a subcommand: tables, findings, files that it wrote, and text to copy."""

    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = False  # what was asked for is there, so that findings are no failure

    @property
    def status(self) -> int:
        return FINDING if self.findings and not self.complete else SUCCESS

    def as_json(self) -> str:
        content = {
            "status": self.status,
            "tables": {table.title: table.records() for table in self.tables},
            "findings": [asdict(finding) for finding in self.findings],
            "notes": self.notes,
            "written": [str(path) for path in self.written],
        }
        return json.dumps(_without_nan(content), indent=2, ensure_ascii=False)


def show(result: Result, *, as_json: bool) -> int:
    """Print a result; returns the exit status."""
    if as_json:
        print(result.as_json())
    else:
        _print(result)
    return result.status


def _print(result: Result) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    for table in result.tables:
        drawn = RichTable(title=escape(table.title), title_justify="left", box=box.SIMPLE_HEAD)
        for number, column in enumerate(table.columns):
            numeric = any(_is_number(row[number]) for row in table.rows)
            drawn.add_column(escape(column), justify="right" if numeric else "left")
        for row in table.rows:
            drawn.add_row(*(escape(as_text(value)) for value in row))
        console.print(drawn)
    for note in result.notes:
        console.print(escape(note), soft_wrap=True)
    for finding in result.findings:
        console.print(f"[bold red]finding[/] {escape(finding.problem)}", soft_wrap=True)
        console.print(f"        {escape(finding.mend)}", soft_wrap=True)
    for path in result.written:
        console.print(f"wrote   {escape(str(path))}", soft_wrap=True)
    if not result.findings:
        console.print("[green]no findings[/]")


def as_text(value: Value) -> str:
    """A value in a table: numbers with five digits, nothing for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_nan(content: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def require_writable(out: Path, *, folder: bool = False) -> None:
    """Check that a file, or files in a ``folder``, can be written, before anything is computed.

    Raises:
        WeakLossError: if not.
    """
    place = out if folder else out.parent
    try:
        if not folder and out.is_dir():
            raise IsADirectoryError("it is a folder")
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise WeakLossError(f"'{out}' cannot be written ({error}): name another --out") from error


def require_new(out: Path, *, inputs: Sequence[Path], overwrite: bool) -> None:
    """Check that a file may be written.

    Raises:
        WeakLossError: if it is an input, or exists and is not to be overwritten.
    """
    if out.resolve() in [path.resolve() for path in inputs]:
        raise WeakLossError(f"'{out}' is an input and would be overwritten: name another --out")
    if out.exists() and not overwrite:
        raise WeakLossError(f"'{out}' exists: name another --out, or add --overwrite")


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the time that a part takes to its ``seconds``."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start


def time_table(seconds: Mapping[str, float]) -> Table:
    """The time of each part."""
    rows = [[part, round(spent, 1)] for part, spent in seconds.items()]
    return Table("Time", ("part", "s"), rows)


@contextmanager
def counter(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar; the function is called with how many more are done."""
    with _bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def progress(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """``items``, with a progress bar in a terminal."""
    with _bar() as bar:
        yield from bar.track(items, total=total, description=what)


def _bar() -> Any:
    """On the standard error, so that the output stays clean."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
