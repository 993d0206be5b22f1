"""The weak options on MACE's command line, and the settings a weak loss refuses."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mace_weak.errors import WeakLossError
from mace_weak.losses import LOSS_TERMS
from mace_weak.mace.accelerated import refuse_absent_backends
from mace_weak.option import PREFIX, Option
from mace_weak.options import AUTO, OPTIONS, WeakOptions, refuse_idle

BASE_LOSSES = ("weighted", "huber", "universal", "stress", "virials", "l1l2energyforces")
BASE_LOSSES_OF_STAGE_TWO = ("weighted", "universal", "stress", "virials")
MODELS = ("MACE", "ScaleShiftMACE")
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
    if args.loss not in LOSS_TERMS and given_options(args):
        raise WeakLossError(
            f"{', '.join(given_options(args))} has no effect with --loss={args.loss}: "
            f"choose --loss={', --loss='.join(LOSS_TERMS)}, or leave the option away"
        )


def checked_options(name: str, args: argparse.Namespace) -> tuple[WeakOptions, str]:
    """The options of the weak loss ``name`` and its supervised loss, all checked.

    Raises:
        WeakLossError: if a value or a combination with MACE's own settings cannot work.
    """
    options = WeakOptions.from_mapping(vars(args))
    base_loss = BASE_LOSS.check(args.weak_base_loss)
    _refuse_settings(args, options, base_loss)
    refuse_idle(name, getattr(args, GIVEN, ()), anchor=options.anchor)
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


def refuse_beside_tangent(args: argparse.Namespace) -> None:
    """Refuse what cannot be used with ``--weak_anchor=tangent``.

    Raises:
        WeakLossError: if there is no foundation model.
    """
    if args.foundation_model is None:
        raise WeakLossError(
            "--weak_anchor=tangent fine-tunes a foundation model: give --foundation_model"
        )


def require_estimable(args: argparse.Namespace) -> None:
    """Check that MACE can estimate the energies of the atoms with the foundation model.

    Raises:
        WeakLossError: if the model is of another precision, with which MACE 0.3.16 fails.
    """
    path = Path(args.foundation_model or "")
    if args.E0s != "estimated" or not path.is_file():
        return
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    except Exception:  # what it is not, MACE says
        return
    if dtype != args.default_dtype:
        raise WeakLossError(
            f"'{path}' is of {dtype}, and MACE cannot estimate the energies of the atoms with it "
            f"in {args.default_dtype}: give --default_dtype={dtype}, or --E0s by value (mace-weak "
            "check shows them)"
        )


def _refuse_settings(args: argparse.Namespace, options: WeakOptions, base_loss: str) -> None:
    if args.model not in MODELS:
        raise WeakLossError(
            f"the weak losses work on the energies of {' and '.join(MODELS)}, not on "
            f"--model={args.model}"
        )
    if not args.compute_forces:
        raise WeakLossError("the weak losses need forces: leave --compute_forces=False away")
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
