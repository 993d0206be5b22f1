"""``mace-weak finetune`` as one of the trainings that are compared, with a model of either host."""

from __future__ import annotations

from pathlib import Path

from recipes.quickstart import processes


def command_of(
    foundation: str, train: Path, *, device: str, seed: int = 1, steps: int | None = None
) -> list[str]:
    """All of the command line but the model file."""
    settings = [f"--device={device}", f"--seed={seed}"]
    if steps is not None:
        settings.append(f"--steps={steps}")
    return ["mace-weak", "finetune", str(foundation), str(train), *settings]


def finetuned(out: Path, command: list[str], *, suffix: str, quiet: bool) -> Path:
    """Run the command, or take the model of an earlier call; returns the model file."""
    product = f"model{suffix}"
    return processes.trained(
        out,
        processes.CLOSED_FORM,
        command,
        None,
        product=product,
        place=lambda folder: f"--out={folder / product}",
        epochs=1,
        epoch=None,  # it counts none where nobody looks on
        threads=1,
        loss=processes.CLOSED_FORM,
        quiet=quiet,
    )
