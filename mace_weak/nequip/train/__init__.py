"""What a nequip configuration names as ``_target_``, as ``nequip.train`` has nequip's own.

The classes are imported when asked for, after nequip's version was checked.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mace_weak.losses import LOSSES
from mace_weak.versions import MACE, NEQUIP, refuse_together, require_supported

if TYPE_CHECKING:
    from mace_weak.nequip.train.modules import (
        WeakEMALightningModule,
        WeakLightningModule,
        WeakScheduleFreeLightningModule,
    )

LOSS_CLASSES = {loss.class_name: name for name, loss in LOSSES.items()}

__all__ = ["WeakEMALightningModule", "WeakLightningModule", "WeakScheduleFreeLightningModule"]
__all__ += LOSS_CLASSES


def __getattr__(name: str) -> Any:
    """The class called ``name``.

    Raises:
        WeakLossError: if the installed nequip is not supported.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_supported(NEQUIP)
    refuse_together(NEQUIP, MACE)
    if name in LOSS_CLASSES:
        return import_module(f"{__name__}.losses").loss_class(LOSS_CLASSES[name])
    return getattr(import_module(f"{__name__}.modules"), name)
