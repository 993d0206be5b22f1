"""What a training step costs with the weak losses, as ratios within one run.

    export PYTHONPATH=recipes/quickstart
    python recipes/benchmark/step_cost.py
    python recipes/benchmark/step_cost.py --device=cuda --size=foundation

Each step is MACE's own ``take_step``. In every round each variant takes one step, in turn, so that
a drift of the machine touches all alike; the table has medians over the rounds of the ratio to the
plain step, with quartiles. The *floor* of a variant is what it cannot beat: a plain step and the
bare evaluations that the loss needs, with their backward passes, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from mace.tools.train import take_step
from step_cost_model import Setting, make_setting
from step_cost_variants import FLOORS, VARIANTS, Floor, Variant, make_loss
from tables import markdown_table, with_table
from tqdm import tqdm

README = Path(__file__).with_name("README.md")
MEMORY_STRUCTURES = 64
OUTPUTS = {"forces": True, "virials": False, "stress": False}


def stepper(setting: Setting, variant: Variant | Floor) -> Callable[[], None]:
    """A function that takes one training step."""
    model = setting.fresh_model()
    loss = make_loss(variant, model, setting)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    batch = setting.batch

    def step() -> None:
        take_step(model, loss, batch, optimizer, None, OUTPUTS, 10.0, setting.device)

    return step


def measure(setting: Setting, names: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant's steps, the variants in turn within each round."""
    table = {**VARIANTS, **FLOORS}
    steps = {name: stepper(setting, table[name]) for name in names}
    for step in steps.values():  # warm up
        step()
        step()
    costs: dict[str, list[float]] = {name: [] for name in names}
    for _ in tqdm(range(rounds), desc=setting.title, unit="round"):
        for name, step in steps.items():
            costs[name].append(timed(setting, step, times=table[name].period))
    return costs


def timed(setting: Setting, step: Callable[[], None], *, times: int) -> float:
    """Seconds of a step, on average over ``times`` steps."""
    setting.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        step()
    setting.synchronize()
    return (time.perf_counter() - start) / times


def peak_memory(setting: Setting, step: Callable[[], None], *, times: int) -> int:
    """Memory in bytes that ``times`` steps take at their peak, beside the model; warmed up."""
    for _ in range(times):
        step()
    setting.synchronize()
    if setting.device.type == "cuda":
        before = torch.cuda.memory_allocated(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        for _ in range(times):
            step()
        return torch.cuda.max_memory_allocated(setting.device) - before
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: sets the peak back
    for _ in range(times):
        step()
    return resident_bytes("VmHWM") - before


def resident_bytes(field: str) -> int:
    """Resident memory of this process: now (``VmRSS``) or at its peak (``VmHWM``). Linux only."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if field in line)
    return 1024 * int(line.split()[1])


def memory_in_a_process(name: str, options: argparse.Namespace) -> int:
    """``peak_memory`` of one variant in a process of its own, which gives back what it frees."""
    flags = [f"--memory-of={name}", f"--device={options.device}", f"--size={options.size}"]
    done = subprocess.run(
        [sys.executable, __file__, *flags, f"--structures={MEMORY_STRUCTURES}"],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def ratio(cost: list[float], to: list[float]) -> str:
    """Median of the ratios within the rounds, with quartiles."""
    ratios = sorted(own / other for own, other in zip(cost, to, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    return f"{statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})"


def cost_table(costs: dict[str, list[float]], memory: dict[str, int]) -> str:
    plain = costs["plain"]
    rows = []
    for name, variant in VARIANTS.items():
        floor = variant.floor
        against = (
            [ratio(costs[floor], plain), ratio(costs[name], costs[floor])] if floor else ["", ""]
        )
        relative = [f"{memory[name] / memory['plain']:.2f}"] if memory else []
        rows.append([name, ratio(costs[name], plain), *against, *relative])
    header = ["step", "time / plain", "floor / plain", "time / floor"]
    return markdown_table(header + ["memory / plain"] * bool(memory), rows)


def scaling_table(settings: Sequence[Setting], rounds: int) -> str:
    """Milliseconds for each atom: constant where the cost is linear."""
    rows = []
    for setting in settings:
        costs = measure(setting, ("plain", "weak_taylor, anchored"), rounds)
        cells = [
            f"{1e3 * statistics.median(cost) / setting.n_atoms:.2f}" for cost in costs.values()
        ]
        extra = ratio(costs["weak_taylor, anchored"], costs["plain"])
        rows.append([setting.title, str(setting.n_atoms), *cells, extra])
    header = ["batch", "atoms", "plain, ms/atom", "anchored Taylor, ms/atom", "ratio"]
    return markdown_table(header, rows)


def main() -> None:
    warnings.filterwarnings("ignore", message="The TorchScript type system")  # MACE's models
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("small", "foundation"), default="small")
    parser.add_argument("--structures", type=int, default=5, help="structures in a batch")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-scaling", action="store_true", help="the first table only")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--readme", action="store_true", help="write the tables into the README")
    parser.add_argument("--memory-of", metavar="STEP", help="print its peak memory, bytes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    setting = make_setting(options.size, device, structures=options.structures)
    if options.memory_of:
        variant = VARIANTS[options.memory_of]
        print(peak_memory(setting, stepper(setting, variant), times=variant.period))
        return
    costs = measure(setting, [*VARIANTS, *FLOORS], options.rounds)
    memory = {}
    if not options.no_memory:
        memory = {name: memory_in_a_process(name, options) for name in tqdm(VARIANTS, "memory")}
    tables = {"step cost": cost_table(costs, memory)}
    if not options.no_scaling:
        settings = [
            make_setting(options.size, device, structures=count) for count in (1, 4, 16, 64)
        ] + [make_setting(options.size, device, supercell=edge) for edge in (1, 2, 3, 5)]
        tables["step scaling"] = scaling_table(settings, max(5, options.rounds // 5))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, mace-torch {version('mace-torch')}"
    caption = (
        f"{where}, {options.threads} thread(s), {options.size} model, {versions}; medians of "
        f"{options.rounds} rounds, with quartiles."
    )
    for marker, table in tables.items():
        print(f"\n{table}")
        if options.readme:
            block = f"{table}\n\n{caption}"
            README.write_text(with_table(README.read_text(), f"{device.type} {marker}", block))
    print(f"\n{caption}")


if __name__ == "__main__":
    main()
