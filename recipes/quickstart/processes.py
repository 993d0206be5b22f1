"""Trainings in processes of their own: with progress, and kept between calls."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mace_weak.compositions import FEWEST, KNOWN
from mace_weak.defaults import ENOUGH
from mace_weak.losses import LOSSES, TERMS, UNDERDETERMINED, loss_terms
from mace_weak.nequip import teaching as nequip
from mace_weak.options import AUTO, OPTIONS
from mace_weak.tangent.evidence import AMPLITUDE, NOISE
from mace_weak.tangent.fit import HARMLESS, SETTLED, SETTLED_ANEW
from mace_weak.tangent.plan import DIRECTIONS, MOST_WEAK_ROWS, Settings
from mace_weak.tangent.solution import WEIGHT
from mace_weak.tangent.teaching import COPIES, LARGE, distilling, training_on_labels

CLOSED_FORM = "finetune"
SCRIPTS = Path(sys.executable).parent
# held while a model is loaded or used here: e3nn and torch.fx compile it, which two threads cannot
LOADING = threading.Lock()


def trained(
    out: Path,
    name: str,
    command: Sequence[str],
    config: Path | None,
    *,
    product: str,
    place: Callable[[Path], str],
    epochs: int,
    epoch: re.Pattern[str] | None,
    threads: int,
    loss: str | None = None,
    quiet: bool = False,
) -> Path:
    """Train in a folder of ``out``, or take what an earlier call left; returns the ``product``.

    ``place`` makes the argument that says where. The folder is named after
    all that the training depends on, its command, ``config``, and the defaults of the ``loss``, so
    that a model is taken only if it was trained alike. The file ``seconds`` in it has the time.
    """
    configured = config.read_text() if config else None
    content = " ".join(filter(None, [*command, configured, defaults_of(loss, on_labels=True)]))
    folder = out / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    if not all((folder / name).exists() for name in (product, "seconds")):
        shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed: its time is unknown
        start = time.perf_counter()
        whole = [*command, place(folder)]
        train(folder, whole, epochs=epochs, epoch=epoch, threads=threads, quiet=quiet)
        (folder / "seconds").write_text(f"{time.perf_counter() - start:.1f}")
    return folder / product


def defaults_of(loss: str | None, *, on_labels: bool = False) -> str:
    """Defaults of the options of a weak loss, which no command line shows; else nothing.

    With what chooses the order: a run is another one where they change. ``on_labels``: of a
    fine-tuning in closed form that turned out to be a training on the labels.
    """
    if loss == CLOSED_FORM:
        priors = f"{NOISE}, {AMPLITUDE}, {WEIGHT}, taken at {SETTLED} or {HARMLESS:.2f}"
        solved = f"{Settings()}, {DIRECTIONS} directions, {MOST_WEAK_ROWS} rows, priors {priors}"
        schedules = [by(count) for by in (distilling, nequip.distilling) for count in (250, LARGE)]
        clipped = f"{nequip.FORCES_WEIGHT} forces, clipped at {nequip.CLIP}"
        trained = [training_on_labels(LARGE, anchored=anchored) for anchored in (True, False)]
        labels = f"; on labels: {trained}, plain below {SETTLED_ANEW}" if on_labels else ""
        return f"{solved}; {COPIES} copies, {schedules}, {clipped}{labels}"
    if loss not in LOSSES:
        return ""
    terms = loss_terms(loss)
    weights = [
        f"{name}_weight {term.anchored / len(terms):g} anchored (order 0: "
        f"{term.anchored_order_0 / len(terms):g}, few labels: "
        f"{UNDERDETERMINED * term.anchored_order_0 / len(terms):g}) and "
        f"{term.plain / len(terms):g} plain"
        for name, term in ((name, TERMS[name]) for name in terms)
    ]
    order = (
        f"few labels below {ENOUGH:g} for each coordinate, anchor known where it leaves below "
        f"{KNOWN:g} of {FEWEST} differences or more"
    )
    others = [f"{option.name} {option.default}" for option in OPTIONS if option.default != AUTO]
    return ", ".join([*weights, order, *others])


def train(
    folder: Path,
    command: Sequence[str],
    *,
    epochs: int,
    epoch: re.Pattern[str] | None,
    threads: int,
    quiet: bool,
) -> None:
    """Run a training command; ``epoch`` finds the number of the epoch in a line of its output.

    Raises:
        SystemExit: if the training fails, with the end of its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output: list[str] = []
    with (
        subprocess.Popen(
            [str(SCRIPTS / command[0]), *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ) as process,
        tqdm(total=epochs, desc=folder.name, unit="epoch", disable=quiet) as bar,
    ):
        for line in process.stdout or ():
            output.append(line)
            if epoch is not None and (found := epoch.search(line)):
                bar.update(int(found[1]) + 1 - bar.n)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{''.join(output[-30:])}")


def output_of(program: str | Path, *arguments: str | Path) -> str:
    """What a program prints, run on one thread.

    Raises:
        SystemExit: if it fails.
    """
    done = subprocess.run(
        [program, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{Path(program).name} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def mace_weak(*arguments: str | Path) -> dict[str, Any]:
    """What the command ``mace-weak`` says, with what it may have found.

    Raises:
        SystemExit: if it refuses.
    """
    command = [SCRIPTS / "mace-weak", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"mace-weak {arguments[0]} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)
