"""Penalties ℓ(x) of a per-atom residual x in eV, elementwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Penalty = Callable[[Tensor], Tensor]


def squared(residual: Tensor) -> Tensor:
    """ℓ(x) = x²."""
    return residual.square()


def absolute(residual: Tensor) -> Tensor:
    """ℓ(x) = |x|."""
    return residual.abs()


def huber(delta: float) -> Penalty:
    """ℓ(x) = x²/2 up to ``delta`` (eV), δ(|x| − δ/2) beyond."""

    def penalty(residual: Tensor) -> Tensor:
        return torch.nn.functional.huber_loss(
            residual, torch.zeros_like(residual), reduction="none", delta=delta
        )

    return penalty
