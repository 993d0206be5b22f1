"""The members of the entry-point group ``mace.losses`` that mace-weak provides."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from mace_weak.errors import one_line_errors
from mace_weak.mace.arguments import add_weak_arguments, checked_options, refuse_unused
from mace_weak.mace.session import WeakSession
from mace_weak.versions import MACE, NEQUIP, refuse_together, require_supported


@dataclass(frozen=True)
class WeakLossPlugin:
    """One of the weak losses, as MACE's plug-in."""

    name: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_weak_arguments(parser)

    def start(self, args: argparse.Namespace) -> WeakSession:
        with one_line_errors():
            require_supported(MACE)
            refuse_together(MACE, NEQUIP)
            options, base_loss = checked_options(self.name, args)
            session = WeakSession(self.name, options, base_loss, args)
        args.loss = base_loss
        return session

    def refuse_unused(self, args: argparse.Namespace) -> None:
        with one_line_errors():
            refuse_unused(args)


weak_taylor = WeakLossPlugin("weak_taylor")
weak_spatial = WeakLossPlugin("weak_spatial")
weak_piwsl = WeakLossPlugin("weak_piwsl")
