"""How the weak losses reach an unmodified MACE, without touching its files.

torch calls ``arm`` at the end of ``import torch`` (entry-point group ``torch.backends``). It only
leaves a note that the few MACE modules concerned are to be wrapped once they are imported, which
in ``mace_run_train`` happens later. Where MACE is never imported, nothing else happens.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

OPT_OUT = "MACE_WEAK_ACTIVATE"
PACKAGE = "mace.tools"  # has the functions of its modules under its own name, too
WRAPPED_MODULES = (
    "mace.tools.arg_parser",
    "mace.tools.arg_parser_tools",
    "mace.tools.model_script_utils",
    "mace.tools.scripts_utils",
    "mace.tools.train",
)


def arm() -> None:
    """Wrap MACE's modules when they are imported; ``MACE_WEAK_ACTIVATE=0`` turns it off.

    Never raises: a failure here must not break ``import torch``. It is not silent either, since
    ``mace_run_train`` then refuses the losses' names.
    """
    if os.environ.get(OPT_OUT, "1") == "0":
        return
    try:
        register()
    except Exception as error:  # any failure must leave torch usable
        import logging

        logging.getLogger(__name__).debug("mace-weak is not active: %s", error)


def register() -> None:
    """Register the wrapping of MACE's modules, now or as soon as each is imported."""
    import wrapt

    for module in WRAPPED_MODULES:
        wrapt.register_post_import_hook(_wrap, module)


def _wrap(_: ModuleType) -> None:
    """Wrap the module just imported, and those that were imported before torch was."""
    from mace_weak.mace.wrappers import rebind, wrap_module

    loaded = [sys.modules[name] for name in WRAPPED_MODULES if name in sys.modules]
    for module in loaded:
        wrap_module(module)
    if PACKAGE in sys.modules:
        rebind(sys.modules[PACKAGE], loaded)
