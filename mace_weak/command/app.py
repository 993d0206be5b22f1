"""The console command ``mace-weak``: its subcommands, their arguments and help.

What a subcommand does is in the module of its name, which is imported when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mace_weak.command.arguments import (
    TYPE_KEY,
    AsJson,
    Device,
    Dtype,
    EnergyKey,
    ForcesKey,
    Head,
    Method,
    Seed,
    StressKey,
)
from mace_weak.command.output import USAGE_ERROR, require_writable, show
from mace_weak.errors import WeakLossError
from mace_weak.keys import ENERGY_KEY, FORCES_KEY, STRESS_KEY

app = typer.Typer(
    name="mace-weak",
    help="Check, select, fine-tune and evaluate around the training of MACE and NequIP.",
    epilog="Exit status: 0 success, 1 with findings, 2 usage error. "
    "Loading a model file executes code stored in it: use only files that you trust.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show which hosts are installed, and check that the weak losses can be used with them.

    Example: [bold]mace-weak doctor[/]
    """
    from mace_weak.command.doctor import diagnosis

    raise typer.Exit(show(diagnosis(), as_json=as_json))


@app.command()
def check(
    train: Annotated[Path, typer.Argument(help="Training structures, extended XYZ.")],
    valid: Annotated[Path | None, typer.Option(help="Structures for validation.")] = None,
    test: Annotated[Path | None, typer.Option(help="Structures for the test.")] = None,
    foundation: Annotated[
        str | None, typer.Option(help="Model to fine-tune: a file, or the name of a MACE model.")
    ] = None,
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    stress_key: StressKey = STRESS_KEY,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Check training data: labels, duplicates and leaks, units, atomic energies, the foundation.

    Ends with a training command to copy.

    Example: [bold]mace-weak check train.xyz --foundation small[/]
    """
    from mace_weak.command.check import check_data
    from mace_weak.command.models import host_of, load_model
    from mace_weak.command.survey import survey
    from mace_weak.structures import Keys
    from mace_weak.versions import MACE

    keys = Keys(energy_key, forces_key, stress_key)
    result = check_data(
        survey(train, keys),
        survey(valid, keys) if valid else None,
        survey(test, keys) if test else None,
        foundation=foundation,
        model=load_model(foundation, device=device) if foundation else None,
        keys=keys,
        device=device,
        reader=host_of(foundation) if foundation else MACE,
    )
    raise typer.Exit(show(result, as_json=as_json))


@app.command()
def select(
    pool: Annotated[Path, typer.Argument(help="Structures to choose from, extended XYZ.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many to choose.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Foundation model: a file, or the name of a MACE model. Not needed for random."
        ),
    ] = None,
    head: Head = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Structures that are labelled already, extended XYZ.")
    ] = None,
    method: Annotated[Method, typer.Option(help="How to choose.")] = Method.FORCES,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Of a larger pool, so many at random. [default: 5000]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write to.")] = Path("selected.xyz"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Even if it exists.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Choose the structures to label from a pool that has no labels.

    forces takes the structures whose energies leave least of the forces open, in the closed form of
    mace-weak finetune, beside those that are labelled already. random is to compare with.

    Example: [bold]mace-weak select pool.xyz --n 50 --model small --out to_label.xyz[/]
    """
    from mace_weak.command.output import require_new
    from mace_weak.command.select import MOST, select_at_random, select_for_forces

    files = (pool, labelled, Path(model) if model else None)
    require_new(out, inputs=[path for path in files if path], overwrite=overwrite)
    require_writable(out)
    if out.suffix not in ("", ".xyz", ".extxyz"):
        raise WeakLossError(f"--out is written as extended XYZ: name it .xyz, not '{out.name}'")
    if method == Method.RANDOM:
        given = {
            "--model": model, "--head": head, "--labelled": labelled, "--candidates": candidates,
        }  # fmt: skip
        for name in (name for name, value in given.items() if value):
            raise WeakLossError(f"{name} has no effect with --method random: remove it")
        result = select_at_random(pool, n, seed=seed, out=out)
    elif model is None:
        raise WeakLossError("--method forces needs a foundation model: name a --model")
    else:
        result = select_for_forces(
            pool, n, model=model, head=head, labelled=labelled, seed=seed, device=device,
            most=candidates or MOST, out=out,
        )  # fmt: skip
    raise typer.Exit(show(result, as_json=as_json))


@app.command()
def finetune(
    foundation: Annotated[
        str,
        typer.Argument(
            help="Model to fine-tune: a file of MACE or NequIP, or the name of a MACE model."
        ),
    ],
    train: Annotated[Path, typer.Argument(help="Structures with energies, extended XYZ.")],
    out: Annotated[Path, typer.Option(help="Model file to write.")],
    test: Annotated[
        Path | None, typer.Option(help="Labelled structures to compare before and after.")
    ] = None,
    head: Head = None,
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again, even if the file exists.")
    ] = False,
    seed: Seed = 1,
    device: Device = "cpu",
    memory: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="GB for the gradients; default: 4, on a GPU three quarters of what is free.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps of the host's trainer; default: some 900 of MACE, 1800 of NequIP, and more "
            "for more than 60 structures. Fewer take less time, but the model follows the solution "
            "less closely.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model of MACE or NequIP on a few energies, in closed form.

    The network, linearised around the foundation model, is solved for the energies (and forces,
    where there are some), with the weak losses as its prior and all weights chosen by the
    evidence. The host's trainer then transfers the solution to an ordinary model file (of
    NequIP a checkpoint, for nequip-package).

    An interrupted call resumes where it stopped when it is repeated.

    Example: [bold]mace-weak finetune small train.xyz --out tuned.model --test test.xyz[/]
    """
    from mace_weak.command.finetune import Request, finetune_model
    from mace_weak.structures import Keys

    request = Request(
        foundation=foundation, train=train, out=out, test=test, head=head,
        keys=Keys(energy_key, forces_key), overwrite=overwrite, seed=seed, device=device,
        memory=memory, steps=steps,
    )  # fmt: skip
    raise typer.Exit(show(finetune_model(request), as_json=as_json))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model file of MACE or NequIP.")],
    test: Annotated[Path, typer.Argument(help="Structures that no training saw, extended XYZ.")],
    before: Annotated[
        str | None, typer.Option(help="The model before the fine-tuning, to compare with.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path(
        "evaluation"
    ),
    energy_key: EnergyKey = ENERGY_KEY,
    forces_key: ForcesKey = FORCES_KEY,
    stress_key: StressKey = STRESS_KEY,
    type_key: Annotated[str, typer.Option(help="Key of the type of configuration.")] = TYPE_KEY,
    probes: Annotated[
        int, typer.Option(min=0, help="Structures for Taylor residuals and closed paths.")
    ] = 20,
    temperature: Annotated[float, typer.Option(min=0, help="Of the dynamics, K.")] = 300.0,
    steps: Annotated[int, typer.Option(min=0, help="Of the dynamics, 0.5 fs each.")] = 1000,
    seed: Seed = 1,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model: errors, softening, Taylor residuals, closed paths, dynamics; with figures.

    Example: [bold]mace-weak evaluate tuned.model test.xyz --before foundation.model[/]
    """
    from mace_weak.command.evaluate import Settings, evaluate_model
    from mace_weak.structures import Keys

    require_writable(out, folder=True)
    settings = Settings(
        keys=Keys(energy_key, forces_key, stress_key), type_key=type_key, probes=probes,
        temperature=temperature, steps=steps, seed=seed, device=device,
        dtype=dtype.value if dtype else "", out=out,
    )  # fmt: skip
    raise typer.Exit(show(evaluate_model(model, before, test, settings), as_json=as_json))


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of trainings by MACE or NequIP, or their log files."),
    ],
    out: Annotated[Path, typer.Option(help="Figure to write, or a folder for report.png.")] = Path(
        "report.png"
    ),
    as_json: AsJson = False,
) -> None:
    """Compare trainings: supervised and weak parts of the loss, and the validation.

    From the hosts' logs: MACE's results file, and the metrics.csv that nequip writes with
    Lightning's CSVLogger. All trainings in a folder are read.

    Example: [bold]mace-weak report results/plain results/weak_taylor --out report.png[/]
    """
    from mace_weak.command.report import report_trainings

    require_writable(out, folder=out.is_dir())
    raise typer.Exit(show(report_trainings(runs, out), as_json=as_json))


def main() -> None:
    """Run the command; a usage error ends it with one line and the status 2."""
    try:
        app()
    except WeakLossError as error:
        print(f"mace-weak: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
