"""The weak losses as plug-ins of MACE: their options, and the settings that they refuse."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mace_weak.errors import WeakLossError, one_line_errors
from mace_weak.losses import LOSSES
from mace_weak.mace.checks import refuse_absent_backends
from mace_weak.mace.kinds import LONG_RANGE, SHORT_RANGE, require_library
from mace_weak.mace.run import WeakSession
from mace_weak.options import AUTO, OPTIONS, PREFIX, Option, WeakOptions, refuse_without_effect
from mace_weak.versions import MACE, NEQUIP, refuse_together, require_supported

BASE_LOSSES = ("weighted", "huber", "universal", "stress", "virials", "l1l2energyforces")
BASE_LOSSES_OF_STAGE_TWO = ("weighted", "universal", "stress", "virials")
GIVEN = "weak_given"

BASE_LOSS = Option(
    name="base_loss",
    parse=str,
    default="weighted",
    choices=BASE_LOSSES,
    meaning="supervised loss underneath the weak terms",
)


class _Given(argparse.Action):
    """Stores the value, and that the user gave it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        setattr(namespace, GIVEN, [*getattr(namespace, GIVEN, ()), self.dest])


def add_weak_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the weak options to MACE's parser, once."""
    if any(action.dest == BASE_LOSS.key for action in parser._actions):
        return
    for option in (BASE_LOSS, *OPTIONS):
        choices = f" ({', '.join(option.choices)})" if option.choices else ""
        parser.add_argument(
            option.flag,
            action=_Given,
            default=option.default,
            help=f"weak losses: {option.meaning}{choices}".replace("%", "%%"),
        )


def given_options(args: argparse.Namespace) -> list[str]:
    """Flags of the weak options that the user gave."""
    return [f"--{name}" for name in dict.fromkeys(getattr(args, GIVEN, ()))]


def refuse_unused(args: argparse.Namespace) -> None:
    """Refuse weak options that would have no effect.

    Raises:
        WeakLossError: if one was given without a weak loss.
    """
    if args.loss not in LOSSES and given_options(args):
        raise WeakLossError(
            f"{', '.join(given_options(args))} has no effect with --loss={args.loss}: "
            f"choose --loss={', --loss='.join(LOSSES)}, or remove the option"
        )


def checked_options(name: str, args: argparse.Namespace) -> tuple[WeakOptions, str]:
    """The options of the weak loss ``name`` and its supervised loss, all checked.

    Raises:
        WeakLossError: if a value or a combination with MACE's own settings cannot work.
    """
    options = WeakOptions.from_mapping(vars(args))
    base_loss = BASE_LOSS.check(args.weak_base_loss)
    _refuse_settings(args, options, base_loss)
    refuse_without_effect(name, getattr(args, GIVEN, ()), anchor=options.anchor)
    if options.anchor == AUTO and args.foundation_model is None:
        if PREFIX + "anchor" in getattr(args, GIVEN, ()):
            raise WeakLossError(
                "--weak_anchor=auto needs a foundation model: give --foundation_model, or a "
                "model file as --weak_anchor, or --weak_anchor=none"
            )
        logging.warning(
            "%s without an anchor penalises the curvature of the energy surface. It seldom helps "
            "a model whose forces are exact gradients; give --foundation_model or --weak_anchor.",
            name,
        )
    return options, base_loss


def _refuse_settings(args: argparse.Namespace, options: WeakOptions, base_loss: str) -> None:
    kinds = (*SHORT_RANGE, *LONG_RANGE)
    if args.model not in kinds:
        raise WeakLossError(
            f"the weak losses work on the energies of {', '.join(kinds)}, not on "
            f"--model={args.model}"
        )
    require_library(args.model)
    if not args.compute_forces:
        raise WeakLossError("the weak losses need forces: remove --compute_forces=False")
    if not args.energy_weight > 0:
        raise WeakLossError(
            f"--energy_weight={args.energy_weight:g} makes the weak terms zero, as they are "
            "relative to the energy term: choose a positive one, or --loss=weighted"
        )
    refuse_absent_backends(args)
    if options.start_epoch >= args.max_num_epochs:
        raise WeakLossError(
            f"--weak_start_epoch={options.start_epoch} is not before the end of training "
            f"(--max_num_epochs={args.max_num_epochs})"
        )
    if args.lbfgs and options.every > 1:
        raise WeakLossError(
            "--weak_every cannot be used with --lbfgs, whose line search needs the same loss at "
            "every evaluation: use --weak_fraction"
        )
    if args.swa and base_loss not in BASE_LOSSES_OF_STAGE_TWO:
        logging.warning(
            "MACE trains Stage Two with the weighted loss, since it has no Stage Two form of %s; "
            "the weak terms go on.",
            base_loss,
        )


@dataclass(frozen=True)
class WeakLossPlugin:
    """One of the weak losses, as a plug-in of MACE."""

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


def __getattr__(name: str) -> WeakLossPlugin:
    """The plug-in of each loss of the table: the entry points of setup.cfg name them."""
    if name in LOSSES:
        return WeakLossPlugin(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
