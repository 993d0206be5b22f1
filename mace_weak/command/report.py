"""``mace-weak report``: curves of supervised and weak parts, several trainings side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_weak.command.arguments import AsJson
from mace_weak.command.output import require_writable, show


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of trainings by MACE or NequIP, or their log files."),
    ],
    out: Annotated[Path, typer.Option(help="Picture to write, or a folder for report.png.")] = Path(
        "report.png"
    ),
    as_json: AsJson = False,
) -> None:
    """Show what trainings did: supervised and weak parts of the loss, and the validation.

    From the hosts' own logs: MACE's results file, and the metrics.csv that nequip writes with
    Lightning's CSVLogger. All trainings in a folder are taken.

    Example: [bold]mace-weak report results/plain results/weak_taylor --out report.png[/]
    """
    from mace_weak.command.reporting.overview import reported

    require_writable(out, folder=out.is_dir())
    raise typer.Exit(show(reported(runs, out), as_json=as_json))
