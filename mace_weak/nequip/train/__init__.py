"""What a nequip configuration names as ``_target_``, as ``nequip.train`` has nequip's own.

The classes are imported when asked for, after nequip's version was checked.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mace_weak.versions import MACE, NEQUIP, refuse_together, require_supported

if TYPE_CHECKING:
    from mace_weak.nequip.train.losses import WeakPIWSLoss, WeakSpatialLoss, WeakTaylorLoss
    from mace_weak.nequip.train.modules import (
        WeakEMALightningModule,
        WeakLightningModule,
        WeakScheduleFreeLightningModule,
    )

# the class of each loss of mace_weak/losses.py
LOSS_CLASSES = {
    "weak_taylor": "WeakTaylorLoss",
    "weak_spatial": "WeakSpatialLoss",
    "weak_piwsl": "WeakPIWSLoss",
}

__all__ = [
    "LOSS_CLASSES",
    "WeakEMALightningModule",
    "WeakLightningModule",
    "WeakPIWSLoss",
    "WeakScheduleFreeLightningModule",
    "WeakSpatialLoss",
    "WeakTaylorLoss",
]


def __getattr__(name: str) -> Any:
    """The class called ``name``.

    Raises:
        WeakLossError: if the installed nequip is not supported.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_supported(NEQUIP)
    refuse_together(NEQUIP, MACE)
    module = "losses" if name.endswith("Loss") else "modules"
    return getattr(import_module(f"{__name__}.{module}"), name)
