"""Checkpoints of weak runs: they load without mace-weak, and restart with it as what they were.

nequip stores in a checkpoint which training module and loss made it, and loads a model through
them. A weak run stores the supervised ones, so that its model loads in any environment, and its
own beside them. Where mace-weak is installed, loading gives those back: otherwise a restart would
silently go on without the weak loss.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class

KEY = "mace_weak"
WEAK_MODULES = "mace_weak.nequip.train.modules"  # imported where a configuration names one
HYPER_PARAMETERS = "hyper_parameters"
logger = logging.getLogger(__name__)


def make_portable(
    checkpoint: dict[str, Any], *, module: type, host_module: type, host_loss: Mapping[str, Any]
) -> None:
    """Store in ``checkpoint`` the ``host_module`` and ``host_loss``, and beside them the weak ones.

    ``module`` is the class of the weak training module.
    """
    stored = dict(checkpoint[HYPER_PARAMETERS])
    checkpoint[KEY] = {"_target_": _path(module), "loss": stored["loss"]}
    stored["loss"] = host_loss
    information = dict(stored["info_dict"])
    information["training_module"] = {
        **information["training_module"],
        "_target_": _path(host_module),
        "loss": host_loss,
    }
    stored["info_dict"] = information
    checkpoint[HYPER_PARAMETERS] = stored


def continue_shuffling(datamodule: Any, checkpoint: Mapping[str, Any]) -> None:
    """Let the training data go on in the order of the run that ``checkpoint`` is of.

    nequip saves the state of its shuffling, but restores it only after it has made the generator,
    so that its own restarts begin the order anew.
    """
    state = checkpoint.get(type(datamodule).__qualname__, {}).get("train_generator_state")
    if state is not None and hasattr(datamodule, "train_generator"):
        datamodule.train_generator.set_state(state)


def restore_weak_modules(lightning: Any) -> None:
    """Let nequip's training modules load checkpoints of weak runs as the weak modules they were.

    ``lightning`` is the module ``nequip.train.lightning``.
    """
    host = lightning.NequIPLightningModule

    def load_from_checkpoint(
        cls: type, checkpoint_path: Any, *args: Any, **settings: Any
    ) -> torch.nn.Module:
        weak = _weak_part(checkpoint_path)
        if weak is not None:
            cls = get_class(weak["_target_"])
            settings.setdefault("loss", weak["loss"])
        elif "info_dict" in settings and WEAK_MODULES in sys.modules:  # of a restart
            logger.warning(
                "mace-weak: %s is of a run without a weak loss, and ckpt_path goes on without one, "
                "whatever training_module says: to train it with one, start from it by "
                "ModelFromCheckpoint",
                checkpoint_path,
            )
        return super(host, cls).load_from_checkpoint(checkpoint_path, *args, **settings)

    host.load_from_checkpoint = classmethod(load_from_checkpoint)


def _weak_part(checkpoint_path: Any) -> Mapping[str, Any] | None:
    if not isinstance(checkpoint_path, str | Path):
        return None
    # nequip itself loads its checkpoints so, and this one in a moment
    checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=False, mmap=True)
    return checkpoint.get(KEY)


def _path(module: type) -> str:
    return f"{module.__module__}.{module.__qualname__}"
