"""The plug-in losses of MACE: the entry-point group, and the protocol of its members.

Any package may declare an entry point in the group ``mace.losses``; its name becomes a value of
``--loss`` and its object follows ``LossPlugin``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

import torch

GROUP = "mace.losses"


class LossSession(Protocol):
    """One training run with a plug-in loss."""

    def wrap_loss(self, supervised: torch.nn.Module) -> torch.nn.Module:
        """The loss to train with, around MACE's own; called for each stage.

        The module may have ``validation_loss``, used in its place in evaluations, and
        ``set_epoch``, called before each epoch.
        """

    def model_built(self, model: torch.nn.Module, **built: Any) -> None:
        """Called with the model and the arguments of ``configure_model``."""

    def training(self, train: Callable[..., None]) -> Callable[..., None]:
        """``mace.tools.train``, prepared for this run."""


class LossPlugin(Protocol):
    """A member of the group."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the plug-in's options; called once per member, so it may find them there."""

    def start(self, args: argparse.Namespace) -> LossSession:
        """Begin a run with this plug-in, before MACE does anything else.

        Checks ``args``, and sets ``args.loss`` to MACE's supervised loss underneath, which MACE
        itself then builds and treats as its own.
        """

    def refuse_unused(self, args: argparse.Namespace) -> None:
        """Called when another loss is chosen: refuse options that would have no effect."""


@cache
def plugins() -> dict[str, LossPlugin]:
    """The installed plug-ins by name; of equal names the first counts."""
    found: dict[str, LossPlugin] = {}
    for entry_point in entry_points(group=GROUP):
        if entry_point.name not in found:
            found[entry_point.name] = entry_point.load()
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Offer the plug-ins' names as values of ``--loss``, and their options."""
    loss = next(action for action in parser._actions if action.dest == "loss")
    loss.choices = list(dict.fromkeys([*(loss.choices or ()), *plugins()]))
    for plugin in plugins().values():
        plugin.add_arguments(parser)


def start_session(args: argparse.Namespace) -> LossSession | None:
    """The session of the plug-in that ``args.loss`` names, or None for MACE's own losses."""
    if args.loss in plugins():
        return plugins()[args.loss].start(args)
    for plugin in plugins().values():
        plugin.refuse_unused(args)
    return None
