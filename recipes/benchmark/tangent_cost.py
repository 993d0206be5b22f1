"""What fine-tuning in closed form costs, as ratios to plain fine-tuning within one run.

    python -m recipes.benchmark.tangent_cost --foundation MODEL --readme

Each row is measured in a process of its own on one thread: 800 times the median of plain training
steps (MACE's ``take_step``, five ethanols), then the solution for some structures with energies,
and the peak of the memory. Random weights and displaced ethanols: what is computed does not depend
on the values. The last row is a whole ``mace-weak finetune`` on 50 energies, distilling included,
beside a whole ``mace_run_train`` of 800 steps, both with the foundation model that is given.
Another table has the cost of error bars, over that of the forces, of one ethanol.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import read
from mace.data import AtomicData, config_from_atoms
from mace.tools import AtomicNumberTable
from mace.tools.train import take_step

from mace_weak.mace.tangent import ParametricModel
from mace_weak.tangent.error_bars import ErrorBars
from mace_weak.tangent.fit import fit
from mace_weak.tangent.labels import Labels
from mace_weak.tangent.plan import Settings
from recipes.benchmark.step_cost_model import (
    QUICKSTART,
    SIZES,
    element_numbers,
    make_model,
    make_setting,
)
from recipes.benchmark.step_cost_variants import VARIANTS, make_loss
from recipes.quickstart.tables import markdown_table, with_table, with_versions

PAGE = Path(__file__).with_name("cost.md")
STEPS = 800
ROUNDS = 15
PACKAGES = ("mace-weak", "mace-torch", "torch")
HEADER = (
    "what", "energies", "atoms", "parameters", "solution / 800 plain steps", "peak memory, GB",
)  # fmt: skip
BAR_HEADER = ("model", "parameters", "energy's bar / forces", "bars of all components / forces")
REPEATS = 5
# energies, ethanols in a cell, size of the model
CASES: dict[str, tuple[int, int, str]] = {
    **{f"{count} energies": (count, 1, "small") for count in (50, 200, 500, 1000)},
    **{f"{molecules} molecules": (50, molecules, "small") for molecules in (2, 4, 7)},
    "a model of MACE-MP-0's channels": (50, 1, "foundation"),
}
LARGE = {"large": (2000, 1, "foundation")}  # by --case alone, as it takes a quarter of an hour
SPACING = 5.0  # Å between the molecules of a cell


def structures(count: int, molecules: int) -> list[Atoms]:
    """Displaced ethanols, several side by side in each structure."""
    frames = read(QUICKSTART / "ethanol_pbe_train.xyz", ":")
    generator = np.random.default_rng(0)
    result = []
    for number in range(count):
        whole = Atoms()
        for place in range(molecules):
            copy = frames[(number + place) % len(frames)].copy()
            copy.translate([SPACING * place, 0.0, 0.0])
            whole += copy
        whole.positions += generator.normal(scale=0.03, size=whole.positions.shape)
        result.append(whole)
    return result


def plain_step(size: str) -> float:
    """Seconds of a plain training step, the median."""
    setting = make_setting(size, torch.device("cpu"), structures=5)
    model = setting.fresh_model()
    loss = make_loss(VARIANTS["plain"], model, setting)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    output = {"forces": True, "virials": False, "stress": False}
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        take_step(model, loss, setting.batch, optimizer, None, output, 10.0, setting.device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def task(count: int, molecules: int, size: str) -> tuple[ParametricModel, Labels]:
    """A model on some structures, and their labels."""
    frames = structures(count, molecules)
    numbers = element_numbers(SIZES[size]["num_elements"], frames)
    table = AtomicNumberTable(numbers)
    data = [
        AtomicData.from_config(config_from_atoms(atoms), z_table=table, cutoff=SIZES[size]["r_max"])
        for atoms in frames
    ]
    model = ParametricModel(make_model(size, numbers), data, device=torch.device("cpu"))
    energies = np.random.default_rng(1).normal(scale=0.1, size=count)
    return model, Labels(model.counts, energies, [None] * count)


def solution(count: int, molecules: int, size: str) -> tuple[float, int, int]:
    """Seconds of a solution, atoms of a structure, and parameters that it has."""
    model, labels = task(count, molecules, size)
    start = time.perf_counter()
    tangent, _ = fit(model, labels, Settings())
    return time.perf_counter() - start, model.sizes[0], len(tangent.coordinates)


def measured(name: str) -> dict[str, float]:
    """One case, in this process."""
    torch.set_num_threads(1)
    count, molecules, size = (CASES | LARGE)[name]
    step = plain_step(size)
    seconds, atoms, parameters = solution(count, molecules, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "energies": count, "atoms": atoms, "parameters": parameters,
        "ratio": seconds / (STEPS * step), "memory": peak,
    }  # fmt: skip


def error_bar_cost(size: str) -> list[str]:
    """Seconds of the error bars of one ethanol over those of its forces, medians."""
    torch.set_num_threads(1)
    model, labels = task(20, 1, size)
    tangent, _ = fit(model, labels, Settings(), error_bars=True)
    bars = ErrorBars.of(tangent, model, model).on(model)
    graph, counts = model.surface([0]).graph, model.counts[0]

    def forces() -> object:
        return model.model(graph, training=False)["forces"]

    def of_energy() -> object:
        return bars.spread(0, counts, forces=False)

    def of_forces() -> object:
        return bars.spread(0, counts)

    unit, *others = (median_time(call) for call in (forces, of_energy, of_forces))
    return [size, f"{len(tangent.coordinates):,}", *(f"{seconds / unit:.1f}" for seconds in others)]


def median_time(call: Callable[[], object]) -> float:
    """Seconds."""
    call()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def apart(name: str) -> dict[str, float]:
    """One case, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "recipes.benchmark.tangent_cost", "--case", name],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def whole(foundation: str) -> float:
    """Seconds of a whole ``mace-weak finetune`` over those of a whole plain training."""
    from recipes.quickstart import closed_form_call, mace_host
    from recipes.quickstart.processes import SCRIPTS

    train = QUICKSTART / "ethanol_pbe_train.xyz"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        finetune = closed_form_call.command_of(foundation, train, device="cpu")
        plain = mace_host.train_command(
            mace_host.FINETUNE,
            f"--foundation_model={foundation}", f"--train_file={train}", "--loss=weighted",
            "--valid_fraction=0.1", "--device=cpu", "--lr=0.001", *mace_host.last_model(89),
            f"--work_dir={out}", epochs=89,
        )  # fmt: skip
        seconds = []
        for words in ([*finetune, f"--out={out / 'tuned.model'}"], plain):
            start = time.perf_counter()
            subprocess.run(
                [str(SCRIPTS / words[0]), *words[1:]],
                env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True,
            )  # fmt: skip
            seconds.append(time.perf_counter() - start)
    return seconds[0] / seconds[1]


def rows(foundation: str | None) -> Iterator[list[str]]:
    for name in CASES:
        case = apart(name)
        yield [
            name, f"{case['energies']}", f"{case['atoms']}", f"{case['parameters']:,}",
            f"{case['ratio']:.2f}", f"{case['memory']:.1f}",
        ]  # fmt: skip
    if foundation:
        yield ["the whole of `finetune`", "50", "9", "", f"{whole(foundation):.2f}", ""]


def main() -> None:
    warnings.filterwarnings("ignore", message="The TorchScript type system")  # MACE's models
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES | LARGE, help="measure one case, in this process")
    parser.add_argument("--foundation", help="model file for the last row; without it, none")
    parser.add_argument("--error-bars", action="store_true", help="the table of these alone")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of theirs")
    parser.add_argument("--readme", action="store_true", help="the table into cost.md")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measured(options.case)))
        return
    tables = {}
    if not options.error_bars:  # first, as a new process counts the memory of the one that made it
        tables["tangent cost"] = markdown_table(HEADER, list(rows(options.foundation)))
    bars = [error_bar_cost(size) for size in options.sizes]
    tables["error bar cost"] = markdown_table(BAR_HEADER, bars)
    for marker, table in tables.items():
        text = with_versions(table, PACKAGES)
        print(text)
        if options.readme:
            PAGE.write_text(with_table(PAGE.read_text(), marker, text))


if __name__ == "__main__":
    main()
