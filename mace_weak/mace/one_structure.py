"""Fine-tuning a MACE model on one structure, by MACE's own command."""

from __future__ import annotations

from pathlib import Path

from ase.data import atomic_numbers

from mace_weak.mace.saved import SavedModel, several_heads

COMMAND = "mace_run_train"
NAME = "softened"
PRODUCT = f"{NAME}.model"
WEIGHT = 100.0  # MACE's default of the forces; as much for the energy, or its zero would drift


def require_trainable(model: str, saved: SavedModel) -> None:
    """Check that a model can be trained on.

    Raises:
        WeakLossError: if it has several heads.
    """
    heads = getattr(saved.model, "heads", None) or ["Default"]
    if len(heads) > 1:
        raise several_heads(model, heads)


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
    """Arguments of ``mace_run_train`` that write ``PRODUCT`` into ``out``.

    ``structure`` is an extended XYZ file of one structure, whose ``REF_energy`` is on the model's
    own level: all elements and atomic energies of the model stay as they are. The learning rate
    falls by ``gamma`` in each epoch.
    """
    energies = {atomic_numbers[name]: energy for name, energy in saved.atomic_energies.items()}
    return [
        f"--name={NAME}",
        f"--work_dir={out}",
        f"--foundation_model={Path(model).resolve() if Path(model).is_file() else model}",
        *saved.training_flags,
        "--foundation_model_elements=True",
        "--multiheads_finetuning=False",
        f"--train_file={structure}",
        f"--valid_file={structure}",
        # by value: MACE's own `foundation` fails for a model of one element
        f"--E0s={energies}",
        "--loss=weighted",
        f"--energy_weight={WEIGHT}",
        f"--forces_weight={WEIGHT}",
        "--batch_size=1",
        "--valid_batch_size=1",
        f"--max_num_epochs={epochs}",
        f"--eval_interval={max(1, epochs - 1)}",
        f"--lr={lr}",
        "--scheduler=ExponentialLR",
        f"--lr_scheduler_gamma={gamma}",
        f"--default_dtype={saved.dtype}",
        f"--device={device}",
        "--error_table=PerAtomRMSE",
        "--plot=False",
        "--seed=1",
    ]
