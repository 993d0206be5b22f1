"""Plug-in losses for stock MACE: their entry points, and wrappers around the functions concerned.

Any package may declare an entry point in the group ``mace.losses``; its name becomes a value of
``--loss`` and its object follows ``LossPlugin``. The wrappers do what the patch in ``patches/mace``
does inside MACE; a MACE so patched is left alone. The session of the run is the one piece of state,
since MACE's functions do not pass it on.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
import wrapt

from mace_weak.errors import WeakLossError
from mace_weak.versions import MACE, require_supported

GROUP = "mace.losses"
PATCH_MODULE = "loss_plugins.py"  # which the patch adds beside the modules concerned


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


class _Run:
    """The session of the training run of this process, from ``check_args`` on."""

    session: LossSession | None = None


def _build_default_arg_parser(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    parser = wrapped(*args, **kwargs)
    add_arguments(parser)
    return parser


def _check_args(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    checked = wrapped(*args, **kwargs)
    _Run.session = start_session(checked[0])
    return checked


def _get_loss_fn(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    loss_fn = wrapped(*args, **kwargs)
    return loss_fn if _Run.session is None else _Run.session.wrap_loss(loss_fn)


def _get_swa(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    swa, swas = wrapped(*args, **kwargs)
    if _Run.session is not None:
        swa.loss_fn = _Run.session.wrap_loss(swa.loss_fn)
    return swa, swas


def _configure_model(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    model, output_args = wrapped(*args, **kwargs)
    if _Run.session is not None:
        given = inspect.signature(wrapped).bind(*args, **kwargs).arguments
        _Run.session.model_built(model, **given)
    return model, output_args


def _train(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    train = wrapped if _Run.session is None else _Run.session.training(wrapped)
    return train(*args, **kwargs)


def _train_one_epoch(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    given = inspect.signature(wrapped).bind(*args, **kwargs).arguments
    if hasattr(given["loss_fn"], "set_epoch"):
        given["loss_fn"].set_epoch(given["epoch"])
    return wrapped(*args, **kwargs)


def _evaluate(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    given = inspect.signature(wrapped).bind(*args, **kwargs)
    loss_fn = given.arguments["loss_fn"]
    given.arguments["loss_fn"] = getattr(loss_fn, "validation_loss", loss_fn)
    return wrapped(*given.args, **given.kwargs)


WRAPPERS: dict[str, Callable] = {
    "build_default_arg_parser": _build_default_arg_parser,
    "check_args": _check_args,
    "configure_model": _configure_model,
    "evaluate": _evaluate,
    "get_loss_fn": _get_loss_fn,
    "get_swa": _get_swa,
    "train": _train,
    "train_one_epoch": _train_one_epoch,
}


def wrap_module(module: ModuleType) -> None:
    """Wrap the functions of one of MACE's modules; a second call changes nothing.

    In a MACE outside the supported range nothing is wrapped, and its parser refuses the losses
    with the reason.
    """
    unwrapped = {name: wrapper for name, wrapper in WRAPPERS.items() if _is_unwrapped(module, name)}
    if not unwrapped or Path(str(module.__file__)).with_name(PATCH_MODULE).exists():
        return
    try:
        require_supported(MACE)
    except WeakLossError as error:
        _refuse_losses(module, str(error))
        return
    for name, wrapper in unwrapped.items():
        wrapt.wrap_function_wrapper(module, name, wrapper)


def _is_unwrapped(module: ModuleType, name: str) -> bool:
    """Whether ``module`` defines a function of that name that is not wrapped yet."""
    function = vars(module).get(name)
    defined_here = getattr(function, "__module__", None) == module.__name__
    return defined_here and not isinstance(function, wrapt.FunctionWrapper)


def rebind(package: ModuleType, modules: Iterable[ModuleType]) -> None:
    """Let a package that took functions from ``modules`` have the wrapped ones."""
    for module in modules:
        for name in WRAPPERS:
            function = vars(module).get(name)
            original = getattr(function, "__wrapped__", None)
            if original is not None and vars(package).get(name) is original:
                setattr(package, name, function)


def _refuse_losses(module: ModuleType, reason: str) -> None:
    """Let the parser of an unsupported MACE say why it has no weak losses."""
    if not hasattr(module, "build_default_arg_parser"):
        return

    def refuse(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
        parser = wrapped(*args, **kwargs)
        known = plugins()

        def loss_name(value: str) -> str:
            if value in known:
                raise SystemExit(f"mace-weak: {reason}")
            return value

        for action in parser._actions:
            if action.dest == "loss":
                action.type = loss_name
        return parser

    wrapt.wrap_function_wrapper(module, "build_default_arg_parser", refuse)
