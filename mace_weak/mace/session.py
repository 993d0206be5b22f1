"""One training run of MACE with a weak loss, from its checked options to the start of training."""

from __future__ import annotations

import argparse
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mace_weak.course import Course, learning_rate_of
from mace_weak.errors import WeakLossError, one_line_errors
from mace_weak.mace.accelerated import check_accelerated
from mace_weak.mace.anchor import Anchor, load_anchor_model, make_anchor
from mace_weak.mace.atomic_energies import take_atomic_energies
from mace_weak.mace.bridge import Bridge
from mace_weak.mace.dataset import knowledge, prepare_training_set
from mace_weak.mace.files import REPLAY_HEAD, check_training_files
from mace_weak.mace.ledger import Ledger, ReportingLogger
from mace_weak.mace.loss import WeakLoss
from mace_weak.options import AUTO, NONE, WeakOptions
from mace_weak.timing import Stopwatch


class WeakSession:
    """See ``LossSession``.

    Raises:
        WeakLossError: if the training files, the anchor file or the options cannot be used.
    """

    def __init__(
        self, name: str, options: WeakOptions, base_loss: str, args: argparse.Namespace
    ) -> None:
        self.args = args
        self.options = options
        self.heads: list[str] = []
        self.weak_heads: list[str] = []
        self.anchor_model: torch.nn.Module | None = None
        if options.anchor not in (AUTO, NONE):
            self.anchor_model = load_anchor_model(options.anchor)
        anchored = self.anchor_model is not None or (
            options.anchor == AUTO and args.foundation_model is not None
        )
        from_scratch = args.foundation_model is None
        order = options.expansion_order(anchored=anchored, from_scratch=from_scratch)
        check_training_files(args, options, base_loss, anchored=anchored)
        self.bridge = Bridge(
            Course(
                name=name,
                options=options,
                seed=args.seed,
                max_num_epochs=args.max_num_epochs,
                order=order,
                from_scratch=from_scratch,
                resample=not args.lbfgs,
            )
        )

    def wrap_loss(self, supervised: torch.nn.Module) -> WeakLoss:
        return WeakLoss(supervised, self.bridge)

    def model_built(self, model: torch.nn.Module, **built: Any) -> None:
        """Choose the heads and the anchor, from the arguments of MACE's ``configure_model``."""
        take_atomic_energies(model, built["atomic_energies"])
        with one_line_errors():
            self.heads = list(built["heads"])
            self.weak_heads = self._choose_heads()
            self.bridge.anchor = self._make_anchor(
                built.get("model_foundation"),
                built["z_table"].zs,
                float(model.get_buffer("r_max")),
            )

    def _choose_heads(self) -> list[str]:
        if self.options.heads == AUTO:
            return [head for head in self.heads if head != REPLAY_HEAD]
        asked = self.options.heads.split(",")
        unknown = [head for head in asked if head not in self.heads]
        if unknown:
            raise WeakLossError(
                f"--weak_heads: there is no head {', '.join(unknown)}; the heads of this training "
                f"are {', '.join(self.heads)}"
            )
        return asked

    def _make_anchor(
        self,
        foundation: torch.nn.Module | None,
        atomic_numbers: list[int],
        r_max: float,
    ) -> Anchor | None:
        model = foundation if self.options.anchor == AUTO else self.anchor_model
        if model is None:
            return None
        return make_anchor(
            model,
            atomic_numbers=atomic_numbers,
            training_heads=self.heads,
            weak_heads=self.weak_heads,
            r_max=r_max,
            device=self.args.device,
        )

    def training(self, train: Callable[..., None]) -> Callable[..., None]:
        def prepared(*args: Any, **kwargs: Any) -> None:
            given = inspect.signature(train).bind(*args, **kwargs).arguments
            with one_line_errors():
                train(**self._prepare(given))

        return prepared

    def _prepare(self, given: dict[str, Any]) -> dict[str, Any]:
        """Fill the bridge from the arguments of ``mace.tools.train``; returns those to use."""
        bridge, course, loader = self.bridge, self.bridge.course, given["train_loader"]
        device = torch.device(given["device"])
        check_accelerated(self.args, given["model"], loader.dataset, device)
        bridge.model = given["model"]
        bridge.learning_rate = partial(learning_rate_of, given["optimizer"])
        course.anchored = bridge.anchor is not None
        course.steps_per_epoch = len(loader)
        bridge.ledger = Ledger(Stopwatch(device))
        course.eligible = prepare_training_set(
            loader.dataset,
            heads=self.heads,
            weak_heads=self.weak_heads,
            anchor=bridge.anchor,
            batch_size=self.args.batch_size,
            device=device,
        )
        course.weigh(
            knowledge(
                loader.dataset,
                course.eligible,
                n_heads=len(self.heads),
                use_forces=self.args.forces_weight > 0,
            )
        )
        logging.info(
            "Weak losses: %s, anchor %s, heads %s",
            course.described(bridge.learning_rate()),
            "none" if bridge.anchor is None else type(bridge.anchor.model).__name__,
            ", ".join(self.weak_heads),
        )
        if course.doubt:
            logging.warning("Weak losses: %s", course.doubt)
        return given | {"logger": ReportingLogger(given["logger"], bridge.ledger)}
