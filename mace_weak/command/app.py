"""The console command ``mace-weak`` and its subcommands."""

from __future__ import annotations

import sys

import typer

from mace_weak.command import check, doctor, evaluate, finetune, report, select, soften
from mace_weak.command.output import BAD_USE
from mace_weak.errors import WeakLossError

app = typer.Typer(
    name="mace-weak",
    help="Check, select and judge around the training of MACE and NequIP.",
    epilog="Exit status: 0 fine, 1 something was found, 2 bad use. "
    "Loading a model file executes code stored in it: name only files that you trust.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(doctor.doctor)
app.command()(check.check)
app.command()(select.select)
app.command()(finetune.finetune)
app.command()(evaluate.evaluate)
app.command()(soften.soften)
app.command()(report.report)


def main() -> None:
    """Run the command; wrong input ends it with one line and the status 2."""
    try:
        app()
    except WeakLossError as error:
        print(f"mace-weak: {error}", file=sys.stderr)
        sys.exit(BAD_USE)
