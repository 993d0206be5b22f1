"""Training modules for the weak losses, beside nequip's plain, EMA and schedule-free ones.

A loss of nequip sees a prediction and its target. A weak loss needs the model too: these modules
hand it over, and leave the training step to nequip.
"""

from __future__ import annotations

from typing import Any

from nequip.train import (
    EMALightningModule,
    NequIPLightningModule,
    ScheduleFreeLightningModule,
)
from nequip.train.lightning import _SOLE_MODEL_KEY

from mace_weak.errors import WeakLossError
from mace_weak.losses import LOSSES
from mace_weak.nequip.anchor import gives_forces
from mace_weak.nequip.checkpoints import continue_shuffling, make_portable
from mace_weak.nequip.run import Preparation, begin_run, prepare_run
from mace_weak.nequip.train.losses import WeakLoss, supervised_loss


class WeakLightningModule(NequIPLightningModule):
    """nequip's training module, for a weak loss; the arguments are nequip's.

    Raises:
        WeakLossError: if the loss is not a weak one, or the model gives no forces.
    """

    prepared: Preparation | None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.prepared = None
        if self.loss is not None:
            self._require_weak_loss()
            self._require_forces()

    @property
    def sole_model(self) -> Any:
        return self.model[_SOLE_MODEL_KEY]

    def on_fit_start(self) -> None:
        """Prepare the weak part, before the training data is loaded."""
        super().on_fit_start()
        self.prepared = prepare_run(self)

    def on_train_start(self) -> None:
        """Begin the weak part, whose schedule needs the length of the training."""
        super().on_train_start()
        if self.prepared is not None:
            self.loss.attach(begin_run(self.prepared, self))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint one that loads without mace-weak."""
        super().on_save_checkpoint(checkpoint)
        host = next(base for base in type(self).__mro__ if base.__module__.startswith("nequip."))
        make_portable(
            checkpoint,
            module=type(self),
            host_module=host,
            host_loss=supervised_loss(self.hparams["loss"]),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a restarted run go on shuffling as the run that it continues."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None:
            continue_shuffling(self.trainer.datamodule, checkpoint)

    def _require_weak_loss(self) -> None:
        if not isinstance(self.loss, WeakLoss):
            raise WeakLossError(
                f"{type(self).__name__} needs a weak loss, not {type(self.loss).__name__}: set "
                "training_module.loss._target_ to one of mace_weak.nequip.train's "
                f"{', '.join(loss.class_name for loss in LOSSES.values())}, or use nequip's own "
                "training module"
            )

    def _require_forces(self) -> None:
        if _SOLE_MODEL_KEY not in self.model:
            raise WeakLossError("the weak losses train one model, not several")
        if not gives_forces(self.sole_model):
            raise WeakLossError(
                "the weak losses need forces, also to train on energies alone: remove "
                "do_derivatives: false, in the model or in that which the package was made of"
            )


class WeakEMALightningModule(WeakLightningModule, EMALightningModule):
    """nequip's ``EMALightningModule``, for a weak loss."""


class WeakScheduleFreeLightningModule(WeakLightningModule, ScheduleFreeLightningModule):
    """nequip's ``ScheduleFreeLightningModule``, for a weak loss."""
