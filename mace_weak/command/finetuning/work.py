"""The folder beside the model file in which a fine-tuning keeps what it has done so far."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mace_weak.command.selecting.selection import require_new
from mace_weak.errors import WeakLossError
from mace_weak.replacing import replacing

MARK = "finetune.json"
LOCK = "lock"
SECONDS = "seconds.json"


@dataclass
class Work:
    """A folder of work, and the seconds of each part, interruptions left out.

    ``lock`` is a file descriptor. As long as this process, or one that inherits it, has it open, no
    other works in the folder.
    """

    folder: Path
    lock: int
    seconds: dict[str, float] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def mark(self, content: Mapping[str, object]) -> None:
        """From here on the folder holds the work of a call with this content."""
        _write(self.folder / MARK, content)

    def clear(self) -> None:
        """Remove what was done so far."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        self.seconds = {}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of a part to what earlier calls needed for it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds.get(part, 0.0) + time.perf_counter() - start
            self.seconds[part] = spent
            _write(self.folder / SECONDS, self.seconds)


def opened(out: Path, *, inputs: Sequence[Path], overwrite: bool) -> Work:
    """The folder of work for a model file that may be written, made if it is not there.

    Raises:
        WeakLossError: if the file exists, is an input, or cannot be written, another process works
            on it, or the folder is another one's.
    """
    require_new(out, inputs=inputs, overwrite=overwrite)
    if out.is_dir():
        raise WeakLossError(f"'{out}' is a folder: name a file by --out")
    folder = out.with_name(f"{out.name}.work")
    if folder.exists() and not (folder / LOCK).is_file():
        raise WeakLossError(f"'{folder}' is not of an earlier call: move it, or name another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise WeakLossError(
            f"'{folder}' cannot be written ({error}): name another --out"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise WeakLossError(
            f"another process works in '{folder}': wait for it, or end it, or name another --out"
        ) from error
    work = Work(folder, lock)
    if overwrite or not work.has(MARK):
        work.clear()
    known = folder / SECONDS
    if known.is_file():
        work.seconds = json.loads(known.read_text())
    return work


def require_same(work: Work, content: Mapping[str, object]) -> None:
    """Check that the folder, if it holds work, holds that of the same call.

    Raises:
        WeakLossError: if it does not.
    """
    path = work.folder / MARK
    if not path.is_file():
        return
    asked, before = json.loads(json.dumps(content)), json.loads(path.read_text())
    changed = [name for name in asked if asked[name] != before.get(name)]
    if changed:
        raise WeakLossError(
            f"'{work.folder}' holds unfinished work with another {', another '.join(changed)}: add "
            "--overwrite to start anew, or name another --out"
        )


def _write(path: Path, content: Mapping[str, object]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(content))
