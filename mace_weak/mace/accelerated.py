"""Models converted to cuEquivariance or OpenEquivariance: the same potential, or refused."""

from __future__ import annotations

import argparse
from copy import deepcopy
from importlib import import_module
from typing import Any

import torch
from mace.tools import torch_geometric

from mace_weak.errors import WeakLossError
from mace_weak.versions import installed

BACKENDS = {
    "enable_cueq": ("cuequivariance-torch", "mace.cli.convert_cueq_e3nn"),
    "enable_oeq": ("openequivariance", "mace.cli.convert_oeq_e3nn"),
}
RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


def refuse_absent_backends(args: argparse.Namespace) -> None:
    """Refuse an accelerated model whose library is not installed.

    Raises:
        WeakLossError: if it is not.
    """
    for flag, (distribution, _) in BACKENDS.items():
        if getattr(args, flag) and installed(distribution) is None:
            raise WeakLossError(
                f"--{flag} needs {distribution}, which is not installed: pip install "
                f"{distribution}, or leave --{flag} away"
            )


def check_accelerated(
    args: argparse.Namespace, model: torch.nn.Module, dataset: Any, device: torch.device
) -> None:
    """Check on the first structure that a converted model equals the original in E and F.

    Conversions have given wrong energies for some models, and some cannot be differentiated
    twice, which the losses need.

    Raises:
        WeakLossError: if it differs, or fails.
    """
    if args.only_cueq:
        return  # built in cuEquivariance, never converted
    for flag, (distribution, module) in BACKENDS.items():
        if not getattr(args, flag):
            continue
        try:
            # the converters leave part of what they build on the CPU
            original = import_module(module).run(deepcopy(model), device=device).to(device)
            batch = torch_geometric.Batch.from_data_list([dataset[0]])
            graph = batch.to(device).to_dict()
            expected = original(dict(graph), training=False)
            found = model(dict(graph), training=True)
            found["forces"].square().sum().backward()
        except Exception as error:  # a foreign backend may fail in any way
            raise WeakLossError(
                f"--{flag}: {distribution} cannot train this model ({error}): leave --{flag} away"
            ) from error
        finally:
            model.zero_grad(set_to_none=True)
        for name in ("energy", "forces"):
            _require_equal(flag, name, found[name].detach(), expected[name].detach())


def _require_equal(flag: str, name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if not difference <= RELATIVE_TOLERANCE[found.dtype] * max(1.0, scale):
        raise WeakLossError(
            f"--{flag}: the converted model's {name} differs from the original's by "
            f"{difference:.3g} (largest value {scale:.3g}): leave --{flag} away"
        )
