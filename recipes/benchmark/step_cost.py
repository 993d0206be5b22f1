"""What a training step costs with the weak losses, as ratios within one run.

    python -m recipes.benchmark.step_cost
    python -m recipes.benchmark.step_cost --device=cuda --size=foundation --readme

Each step is MACE's own ``take_step``. In every round each variant takes one step, in turn, so that
a drift of the machine touches all alike; the table has medians over the rounds of the ratio to the
plain step, with quartiles. The *floor* of a variant is what it cannot beat: a plain step and the
bare evaluations that the loss needs, with their backward passes, and nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from mace.tools.train import take_step
from tqdm import tqdm

from recipes.benchmark.step_cost_memory import peak_memory
from recipes.benchmark.step_cost_model import Setting, make_setting
from recipes.benchmark.step_cost_variants import FLOORS, VARIANTS, Floor, Variant, make_loss
from recipes.quickstart.tables import markdown_table, with_table

PAGE = Path(__file__).with_name("cost.md")
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
    table: dict[str, Variant | Floor] = {**VARIANTS, **FLOORS}
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


def ratio(cost: list[float], to: list[float]) -> str:
    """Median of the ratios within the rounds, with quartiles."""
    ratios = sorted(one / other for one, other in zip(cost, to, strict=True))
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
        relative = f"{memory[name] / memory['plain']:.2f}"
        rows.append([name, ratio(costs[name], plain), *against, relative])
    header = ["step", "time / plain", "floor / plain", "time / floor", "memory / plain"]
    return markdown_table(header, rows)


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
    parser.add_argument(
        "--memory-structures", type=int, default=64, help="structures in the batch of the memory"
    )
    parser.add_argument("--readme", action="store_true", help="write the tables into cost.md")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device={options.device}: torch finds no GPU here")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    setting = make_setting(options.size, device, structures=options.structures)
    costs = measure(setting, [*VARIANTS, *FLOORS], options.rounds)
    large = make_setting(options.size, device, structures=options.memory_structures)
    memory = {
        name: peak_memory(large, stepper(large, variant), times=variant.period)
        for name, variant in tqdm(VARIANTS.items(), "memory")
    }
    tables = {"step cost": cost_table(costs, memory)}
    if not options.no_scaling:
        settings = [
            make_setting(options.size, device, structures=count) for count in (1, 4, 16, 64)
        ] + [make_setting(options.size, device, supercell=edge) for edge in (1, 2, 3, 5)]
        tables["step scaling"] = scaling_table(settings, options.rounds)
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
            PAGE.write_text(with_table(PAGE.read_text(), f"{device.type} {marker}", block))
    print(f"\n{caption}")


if __name__ == "__main__":
    main()
