"""Wrappers around the few functions of stock MACE that a plug-in loss concerns.

They do what the patch in ``patches/mace`` does inside MACE; a MACE so patched is left alone.
The session of the run is the one piece of state, since MACE's functions do not pass it on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from mace_weak.errors import WeakLossError
from mace_weak.mace import registry
from mace_weak.versions import MACE, require_supported

PATCH_MODULE = "loss_plugins.py"  # which the patch adds beside the modules concerned


class _Run:
    """The session of the training run of this process, from ``check_args`` on."""

    session: registry.LossSession | None = None


def _build_default_arg_parser(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    parser = wrapped(*args, **kwargs)
    registry.add_arguments(parser)
    return parser


def _check_args(wrapped: Callable, _: Any, args: Any, kwargs: Any) -> Any:
    checked = wrapped(*args, **kwargs)
    _Run.session = registry.start_session(checked[0])
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
        known = registry.plugins()

        def loss_name(value: str) -> str:
            if value in known:
                raise SystemExit(f"mace-weak: {reason}")
            return value

        for action in parser._actions:
            if action.dest == "loss":
                action.type = loss_name
        return parser

    wrapt.wrap_function_wrapper(module, "build_default_arg_parser", refuse)
