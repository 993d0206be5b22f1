"""Overrides of nequip's configurations, as Hydra's command line (``nequip-train``) reads them.

Some change the configuration ``nequip_finetune`` of ``mace_weak.configurations``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mace_weak.command.models import Model

# nequip's loss of energies in place of the anchored one
SUPERVISED_ALONE = (
    "training_module._target_=nequip.train.EMALightningModule",
    "training_module.loss._target_=nequip.train.EnergyOnlyLoss",
    "~training_module.loss.coeffs",
    "~training_module.loss.weak_anchor",
)
WITH_FORCES = (
    "training_module._target_=nequip.train.EMALightningModule",
    "training_module.loss._target_=nequip.train.EnergyForceLoss",
    "+training_module.loss.coeffs.forces=1.0",
    "~training_module.loss.weak_anchor",
    "training_module.val_metrics._target_=nequip.train.EnergyForceMetrics",
    "+training_module.val_metrics.coeffs.forces_rmse=1.0",
)
PLAIN = re.compile(r"[\w./+@%-]+", re.ASCII)
BEFORE_QUOTE = re.compile(r"(\\*)('|$)")


def shape_overrides(model: Model) -> list[str]:
    """Elements and cutoff of the model that a training starts from."""
    return [f"types=[{', '.join(model.elements)}]", f"cutoff={model.cutoff:g}"]


def per_type(values: Mapping[str, float]) -> str:
    """As Hydra's command line takes a mapping."""
    return "{" + ", ".join(f"{name}: {value:.6f}" for name, value in values.items()) + "}"


def override(key: str, value: object) -> str:
    """``key=value`` with the value as text, such as a path, whatever characters it contains.

    Unquoted, Hydra gives spaces, brackets, commas and ``=`` a meaning, and accepts no letters
    outside ASCII.
    """
    return f"{key}={quoted(str(value))}"


def quoted(text: str) -> str:
    """Text as one value; backslashes count before a quote only."""
    if PLAIN.fullmatch(text):
        return text
    escaped = BEFORE_QUOTE.sub(lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text)
    return "'" + escaped.replace("${", r"\${") + "'"
