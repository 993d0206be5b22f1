"""What nequip loads with itself, through the entry point ``init_always`` of ``nequip.extension``.

Loading is all that nequip does with it, while nequip is half imported: so it acts on import, and
imports narrowly.
"""

from __future__ import annotations

import wrapt

from mace_weak.errors import WeakLossError
from mace_weak.nequip import ANCHOR_ENERGY, ANCHOR_FORCES, STRUCTURE
from mace_weak.nequip.checkpoints import restore_weak_modules
from mace_weak.versions import NEQUIP, require_supported


def extend() -> None:
    """Register the weak fields, and see to it that a weak run restarts as one.

    A nequip that is not supported is left alone: a weak loss says so when it is used.
    """
    try:
        require_supported(NEQUIP)
    except WeakLossError:
        return
    from nequip.data import register_fields

    register_fields(
        graph_fields=[STRUCTURE, ANCHOR_ENERGY],
        node_fields=[ANCHOR_FORCES],
        long_fields=[STRUCTURE],
    )
    wrapt.register_post_import_hook(restore_weak_modules, "nequip.train.lightning")


extend()
