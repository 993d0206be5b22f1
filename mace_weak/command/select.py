"""``mace-weak select``: which structures of a pool to label, before any label exists."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mace_weak.command.arguments import AsJson, Device, Dtype, Seed
from mace_weak.command.output import require_writable, show


class Method(str, Enum):
    """How structures are chosen."""

    D_OPTIMAL = "d-optimal"
    A_OPTIMAL = "a-optimal"
    FARTHEST = "farthest"
    RANDOM = "random"


def select(
    pool: Annotated[Path, typer.Argument(help="Structures to choose from, extended XYZ.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many to choose.")],
    model: Annotated[
        str | None,
        typer.Option(help="Gives the descriptors: a file, or MACE's name. Random needs none."),
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Structures that have labels already, extended XYZ.")
    ] = None,
    method: Annotated[Method, typer.Option(help="How to choose.")] = Method.D_OPTIMAL,
    out: Annotated[Path, typer.Option(help="File to write to.")] = Path("selected.xyz"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Even if it exists.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Choose the structures to label from a pool that has no labels.

    For a linear model on the descriptors, d-optimal leaves its coefficients the least volume,
    a-optimal its predictions the least variance, averaged over the pool; farthest spreads the
    choice over the descriptors. All count what is labelled already.

    Example: [bold]mace-weak select pool.xyz --n 50 --model small --out to_label.xyz[/]
    """
    from mace_weak.command.models import load_model
    from mace_weak.command.selecting.selection import require_new, require_sensible, selected

    require_new(out, inputs=[pool, *([labelled] if labelled else [])], overwrite=overwrite)
    require_writable(out)
    require_sensible(method.value, described=model is not None, labelled=labelled is not None)
    result = selected(
        pool,
        n,
        model=load_model(model, device=device, dtype=dtype.value if dtype else "")
        if model
        else None,
        labelled=labelled,
        method=method.value,
        seed=seed,
        out=out,
    )
    if model:
        result.notes.append(f"The descriptors are those of the model {model}.")
    raise typer.Exit(show(result, as_json=as_json))
