"""One training run of MACE with a weak loss, from its arguments to the loop of MACE."""

from __future__ import annotations

import argparse
import inspect
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mace_weak.defaults import Situation, assess, resolve, resolved_order
from mace_weak.errors import WeakLossError, one_line_errors
from mace_weak.mace.anchor import (
    Anchor,
    asked_for,
    load_anchor_model,
    make_anchor,
    take_atomic_energies,
)
from mace_weak.mace.checks import (
    REPLAY_HEAD,
    check_accelerated,
    check_foundation,
    check_training_files,
    refuse_beside_tangent,
)
from mace_weak.mace.dataset import prepare_training_set, summaries
from mace_weak.mace.loss import Bridge, Ledger, ReportingLogger, WeakLoss
from mace_weak.mace.tangent import TangentAnchor, solved_anchor
from mace_weak.options import AUTO, NONE, TANGENT, WeakOptions
from mace_weak.schedule import WeakSchedule, learning_rate_of
from mace_weak.step import Stopwatch
from mace_weak.tangent.plan import Settings


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
        self.base_loss = base_loss
        self.heads: list[str] = []
        self.weak_heads: list[str] = []
        self.anchor_model: torch.nn.Module | None = None
        if options.anchor == TANGENT:
            refuse_beside_tangent(args)
        elif options.anchor not in (AUTO, NONE):
            self.anchor_model = load_anchor_model(options.anchor)
        anchored = self.anchor_model is not None or (
            options.anchor in (AUTO, TANGENT) and args.foundation_model is not None
        )
        from_scratch = args.foundation_model is None
        resolved_order(options, Situation(anchored=anchored, from_scratch=from_scratch))
        self.warnings = check_training_files(args, options, base_loss, anchored=anchored)
        check_foundation(args)
        self.bridge = Bridge(name)

    def wrap_loss(self, supervised: torch.nn.Module) -> WeakLoss:
        return WeakLoss(supervised, self.bridge)

    def model_built(self, model: torch.nn.Module, **built: Any) -> None:
        """Choose the heads and the anchor, from the arguments of MACE's ``configure_model``."""
        take_atomic_energies(model, asked_for(built))
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
        from_foundation = self.options.anchor in (AUTO, TANGENT)
        model = foundation if from_foundation else self.anchor_model
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
        bridge, loader = self.bridge, given["train_loader"]
        device = torch.device(given["device"])
        check_accelerated(self.args, given["model"], loader.dataset, device)
        bridge.model = given["model"]
        bridge.learning_rate = partial(learning_rate_of, given["optimizer"])
        if self.options.anchor == TANGENT:
            bridge.anchor = self._tangent_anchor(given)
        bridge.ledger = Ledger(Stopwatch(device))
        eligible = prepare_training_set(
            loader.dataset,
            heads=self.heads,
            weak_heads=self.weak_heads,
            anchor=bridge.anchor,
            batch_size=self.args.batch_size,
            device=device,
            base_loss=self.base_loss,
        )
        situation = self._situation(loader.dataset, eligible)
        bridge.schedule = WeakSchedule(
            name=bridge.name,
            options=self.options,
            resolved=resolve(bridge.name, self.options, situation),
            seed=self.args.seed,
            n_epochs=self.args.max_num_epochs,
            steps_per_epoch=len(loader),
            eligible=eligible,
            resample=not self.args.lbfgs,
        )
        logging.info(
            "Weak losses: %s, anchor %s, heads %s",
            bridge.schedule.described(bridge.learning_rate()),
            self._anchor_name(),
            ", ".join(self.weak_heads),
        )
        assessed = situation.assessment.warning if situation.assessment else None
        for warning in [*self.warnings, *([assessed] if assessed else [])]:
            logging.warning("Weak losses: %s", warning)
        return given | {"logger": ReportingLogger(given["logger"], bridge.ledger)}

    def _situation(self, dataset: Any, eligible: list[bool]) -> Situation:
        """What the defaults depend on: the anchor, and the labels where it is a foundation."""
        anchor = self.bridge.anchor
        tangent = isinstance(anchor, TangentAnchor)
        assessment = None
        if anchor is not None and not tangent:
            use_forces = self.args.forces_weight > 0
            assessment = assess(
                summaries(dataset, eligible, n_heads=len(self.heads), use_forces=use_forces)
            )
        return Situation(
            anchored=anchor is not None,
            from_scratch=self.args.foundation_model is None,
            tangent=tangent,
            assessment=assessment,
        )

    def _anchor_name(self) -> str:
        if self.bridge.anchor is None:
            return "none"
        kind = "tangent model of a " if isinstance(self.bridge.anchor, TangentAnchor) else ""
        return kind + type(self.bridge.anchor.model).__name__

    def _tangent_anchor(self, given: dict[str, Any]) -> Anchor | TangentAnchor:
        """The tangent model as the anchor, or the foundation where the labels settle no forces.

        Raises:
            WeakLossError: if the weak terms have several heads, or the labels cannot be solved.
        """
        if len(self.weak_heads) != 1:
            raise WeakLossError(
                "--weak_anchor=tangent is solved for the labels of one head: choose one of "
                f"{', '.join(self.weak_heads)} by --weak_heads"
            )
        foundation = self.bridge.anchor
        if not isinstance(foundation, Anchor):
            raise RuntimeError("the foundation model is not there yet")
        datasets = zip(self.heads, given["train_loader"].dataset.datasets, strict=True)
        tangent = solved_anchor(
            foundation,
            [dataset for head, dataset in datasets if head in self.weak_heads],
            use_forces=self.args.forces_weight > 0,
            settings=Settings(seed=self.args.seed),
            path=Path(self.args.checkpoints_dir)
            / f"{self.args.name}_run-{self.args.seed}_tangent.npz",
            first=given.get("rank", 0) == 0,
            distributed=given.get("distributed", False),
        )
        account = tangent.tangent.account
        say = logging.info if account.trusted else logging.warning
        say("Weak losses: %s", account.as_an_anchor)
        return tangent if account.trusted else foundation
