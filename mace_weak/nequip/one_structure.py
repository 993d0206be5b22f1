"""Fine-tuning a nequip model on one structure, by nequip's own command."""

from __future__ import annotations

from pathlib import Path

from mace_weak.nequip import configuration
from mace_weak.nequip.saved import SavedModel

COMMAND = "nequip-train"
NAME = "softened"
PRODUCT = f"{NAME}.ckpt"


def require_trainable(model: str, saved: SavedModel) -> None:
    """Check that a model can be trained on.

    Raises:
        WeakLossError: if it is compiled.
    """
    configuration.require_trainable(model)


def one_structure_arguments(
    model: str,
    saved: SavedModel,
    structure: Path,
    out: Path,
    *,
    epochs: int,
    lr: float,
    gamma: float,
    device: str,
) -> list[str]:
    """Arguments of ``nequip-train`` that write ``PRODUCT`` into ``out``.

    ``structure`` is an extended XYZ file of one structure, whose ``REF_energy`` is on the model's
    own level. The learning rate falls by ``gamma`` in each epoch. The configuration that they name
    is written to ``out``.
    """
    files = {"train_file_path": str(structure), "val_file_path": str(structure)}
    config = {
        "run": ["train"],
        "hydra": {"run": {"dir": str(out)}},
        "data": configuration.data_module(saved, files, batch_size=1, seed=1),
        "trainer": configuration.trainer(out, {NAME: 1}, epochs=epochs, device=device),
        "training_module": configuration.training_module(
            configuration.model_from(Path(model)),
            configuration.energies_and_forces(),
            lr=lr,
            decay=gamma,
        ),
    }
    return configuration.written(out, config)
