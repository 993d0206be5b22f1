"""Fine-tune a short-range and a long-range model on dimers in contact; test them far apart.

    python -m recipes.long_range.run --readme

Both foundation models learn energies and forces of the cheap level at all distances, and are then
fine-tuned on the same energies of the better one: plainly, with ``weak_taylor`` and in closed form.
What was trained before is kept, so that a run can be stopped and called again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.io import read
from matplotlib.axes import Axes

from mace_weak.command.model_errors import rmse
from mace_weak.command.models import load_model, predict
from mace_weak.structures import Prediction
from recipes.quickstart import closed_form_call, mace_host
from recipes.quickstart.arguments import add_training_arguments
from recipes.quickstart.tables import markdown_table, with_table, with_versions

HERE = Path(__file__).parent
BLOCK = "RealAgnosticResidualNonLinearInteractionBlock"  # which MACE can fine-tune in a PolarMACE
MODELS = {"short range": "ScaleShiftMACE", "long range": "PolarMACE"}
FOUNDATION, FINETUNE = "foundation", "finetune"
LOSSES = {"plain": "weighted", "weak_taylor": "weak_taylor"}
ROADS = (FOUNDATION, *LOSSES, FINETUNE)
TESTS = {"near": "in contact", "far": "far apart"}
HEADER = (
    "model", "trained by", *(f"{name}: energy, meV" for name in TESTS.values()),
    *(f"{name}: forces, meV/Å" for name in TESTS.values()),
    *(f"{name}: force between the molecules, meV/Å" for name in TESTS.values()),
)  # fmt: skip
PACKAGES = ("mace-weak", "mace-torch", "graph-longrange", "torch")


def train_foundation(kind: str, options: argparse.Namespace) -> str:
    """A foundation model of the cheap level."""
    return mace_host.train_foundation(
        options.out.resolve(), options.data / "foundation.xyz", epochs=options.foundation_epochs,
        device=options.device, threads=1, name=f"foundation-{kind}",
        flags=[
            f"--model={kind}", f"--interaction={BLOCK}", f"--interaction_first={BLOCK}",
            "--hidden_irreps=16x0e+16x1o", "--r_max=4.0", "--scaling=rms_forces_scaling",
            "--default_dtype=float64", "--kspace_cutoff_factor=0.1",
            f"--lr_scheduler_gamma={0.02 ** (1 / options.foundation_epochs):.4f}",
        ],
    )  # fmt: skip


def fine_tune(kind: str, road: str, foundation: str, options: argparse.Namespace) -> str:
    """The foundation model, fine-tuned on the energies of dimers in contact."""
    out, train = options.out.resolve(), options.data / "train.xyz"
    if road == FOUNDATION:
        return foundation
    if road == FINETUNE:
        command = closed_form_call.command_of(
            foundation, train, device=options.device, steps=options.finetune_steps
        )
        suffix = mace_host.MODEL_SUFFIX
        return str(closed_form_call.finetuned(out, command, suffix=suffix, quiet=True))
    return str(
        mace_host.mace_run_train(
            out, f"{road}-{kind}", mace_host.FINETUNE,
            f"--foundation_model={foundation}", f"--train_file={train}", f"--model={kind}",
            f"--loss={LOSSES[road]}", f"--lr={options.lr}", f"--device={options.device}",
            "--default_dtype=float64", *mace_host.last_model(options.epochs),
            epochs=options.epochs, threads=1, loss=road, quiet=True,
        )
    )  # fmt: skip


def between(forces: np.ndarray, atoms: Atoms) -> np.ndarray:
    """The net force on the first molecule, eV/Å."""
    return forces[: atoms.info["n_first"]].sum(axis=0)


def errors(model: str, test: Path) -> list[str]:
    """Root mean square errors of energies, force components, and forces between the molecules."""
    frames = read(test, ":")
    found = list(predict(load_model(model), frames))
    energy = [one.energy - atoms.info["REF_energy"] for one, atoms in pairs(found, frames)]
    forces = [one.forces - atoms.arrays["REF_forces"] for one, atoms in pairs(found, frames)]
    net = [between(one, atoms) for one, atoms in zip(forces, frames, strict=True)]
    return [
        f"{1e3 * rmse(np.array(energy)):.0f}",
        f"{1e3 * rmse(np.concatenate(forces)):.0f}",
        f"{1e3 * rmse(np.array(net)):.0f}",
    ]


def pairs(found: list[Prediction], frames: list[Atoms]) -> Iterator[tuple[Prediction, Atoms]]:
    return zip(found, frames, strict=True)


def line(name: str, road: str, model: str, data: Path) -> list[str]:
    each = [errors(model, data / f"{test}.xyz") for test in TESTS]
    return [name, road, *(cell for cells in zip(*each, strict=True) for cell in cells)]


def draw(axis: Axes, name: str, models: Mapping[str, str], scan: Path) -> None:
    """Energies of a dimer that parts."""
    frames = read(scan, ":")
    distances = [atoms.info["distance"] for atoms in frames]
    curves = {
        road: [one.energy for one in predict(load_model(model), frames)]
        for road, model in models.items()
    }
    curves["GFN2-xTB"] = [atoms.info["REF_energy"] for atoms in frames]
    for label, values in curves.items():
        style = {"color": "black", "linestyle": "--"} if label == "GFN2-xTB" else {}
        axis.plot(distances, np.subtract(values, values[-1]), label=label, **style)
    axis.axvspan(distances[0], 5.0, color="0.92")
    axis.set(title=name, xlabel="distance of the centres, Å")


def picture(models: Mapping[str, Mapping[str, str]], scan: Path, path: Path) -> None:
    figure, axes = plt.subplots(
        1, len(models), figsize=(1 + 4 * len(models), 3.6), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, (name, model) in zip(axes[0], models.items(), strict=True):
        draw(axis, name, model, scan)
    axes[0, 0].set_ylabel("energy of NH₄⁺ and NCH, eV")
    axes[0, -1].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--foundation-epochs", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=67, help="of the trainings on 48 energies")
    parser.add_argument("--lr", type=float, default=0.001, help="of these trainings")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the dimers")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--readme", action="store_true", help="table and picture into the README")
    add_training_arguments(parser)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.data = options.data.resolve()
    with ThreadPoolExecutor(options.processes) as pool:
        kinds = [MODELS[name] for name in options.models]
        foundations = dict(
            zip(kinds, pool.map(lambda kind: train_foundation(kind, options), kinds), strict=True)
        )
        tasks = {(name, road): MODELS[name] for name in options.models for road in ROADS}
        found = pool.map(
            lambda task: fine_tune(tasks[task], task[1], foundations[tasks[task]], options), tasks
        )
        models = dict(zip(tasks, found, strict=True))
    table = with_versions(
        markdown_table(
            HEADER, [line(*task, model, options.data) for task, model in models.items()]
        ),
        PACKAGES,
    )
    print(table)
    by_name = {name: {road: models[name, road] for road in ROADS} for name in options.models}
    folder = HERE if options.readme else options.out
    picture(by_name, options.data / "scan.xyz", folder / "distance.png")
    if options.readme:
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(), "long range", table))


if __name__ == "__main__":
    main()
