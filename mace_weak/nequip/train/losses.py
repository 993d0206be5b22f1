"""The weak losses, in the style of nequip's ``EnergyForceLoss``."""

from __future__ import annotations

import math
from collections.abc import KeysView, Mapping, Sequence
from typing import Any, ClassVar

import torch
from hydra.utils import instantiate
from nequip.data import AtomicDataDict, Mean
from nequip.train import MetricsManager
from torch import Tensor

from mace_weak.course import Course
from mace_weak.errors import NonFiniteWeakLossError, WeakLossError
from mace_weak.losses import FORCES, loss_terms
from mace_weak.nequip.fields import STRUCTURE
from mace_weak.nequip.graphs import Graph, per_structure
from mace_weak.nequip.run import WeakRun
from mace_weak.nequip.supervised import (
    ENERGY_METRIC,
    OWN_METRIC,
    chosen_coeffs,
    supervised_metrics,
)
from mace_weak.option import PREFIX
from mace_weak.options import OPTIONS, TANGENT, WeakOptions, refuse_idle
from mace_weak.penalties import squared
from mace_weak.schedules import REFERENCE_LEARNING_RATE
from mace_weak.step import require_finite


class WeakLoss(MetricsManager):
    """L = Σ_i c_i m_i + c_E Σ_t w_t s(t) mean_S[ ℓ(r_t(S)/N) ], of order 0 with ℓ(r_t(S)/√N).

    The c_i and m_i are nequip's (normalised) coefficients and mean squared errors of energies,
    forces and stresses; c_E is the coefficient of the energy term, w_t the weight of the weak term
    relative to it, s the schedule and ℓ the square. With ``per_atom_energy: false`` the energy term
    is that of total energies, and ℓ is of r, of order 0 of r√N. Anchored on the tangent model, the
    loss also has the mean square of the force components that differ from its own.

    Args:
        coeffs: coefficients of ``total_energy``, and optionally of ``forces`` and ``stress``
        per_atom_energy: whether the energy term is per atom
        per_type_forces_coeffs: as in nequip's ``EnergyForceLoss``
        ignore_nan: for each field, whether NaN labels are missing ones, as in nequip's
            ``EnergyForceStressLoss``
        extra_metrics: further entries of nequip's ``MetricsManager``
        type_names: given by the training module
        weak_options: the options of the weak losses (see the README)

    Raises:
        WeakLossError: if an option or coefficient is unknown or out of its range.
    """

    name: ClassVar[str]

    def __init__(
        self,
        coeffs: Mapping[str, float | None] | None = None,
        *,
        per_atom_energy: bool = True,
        per_type_forces_coeffs: Mapping[str, float] | None = None,
        ignore_nan: Mapping[str, bool] | None = None,
        extra_metrics: Sequence[Mapping[str, Any]] | None = None,
        type_names: Sequence[str] | None = None,
        **weak_options: Any,
    ) -> None:
        options = checked_options(self.name, weak_options)
        supervised = supervised_metrics(
            coeffs,
            per_atom_energy=per_atom_energy,
            per_type_forces_coeffs=per_type_forces_coeffs,
            ignore_nan=ignore_nan or {},
            metric=OWN_METRIC,
        )
        metrics = [*instantiate(supervised, _convert_="all"), *(extra_metrics or ())]
        super().__init__(metrics, type_names=type_names)
        self.options = options
        self.anchor_given = f"{PREFIX}anchor" in weak_options
        self.per_atom_energy = per_atom_energy
        self.fields = list(chosen_coeffs(coeffs))
        self.ignore_nan = dict(ignore_nan or {})
        self.energy_metric = ENERGY_METRIC[per_atom_energy]
        terms = [*loss_terms(self.name), *([FORCES] if options.anchor == TANGENT else [])]
        self.parts = {term: f"{PREFIX}{term}" for term in terms}
        self.update({name: Mean() for name in self.parts.values()})
        self.run: WeakRun | None = None
        self.place = (0, 0)
        self.learning_rate = REFERENCE_LEARNING_RATE

    def keys(self) -> KeysView[str]:
        """The names of nequip's own metrics, which have the coefficients that its callbacks set."""
        return self.entries.keys()

    def attach(self, run: WeakRun) -> None:
        self.run = run

    def at(self, epoch: int, step: int, learning_rate: float) -> None:
        """Say which step of which epoch comes next, and the optimizer's learning rate in it."""
        self.place = (epoch, step)
        self.learning_rate = learning_rate

    def forward(
        self, preds: Graph, target: Graph, prefix: str = "", suffix: str = ""
    ) -> dict[str, Tensor]:
        """nequip's metrics of a step; ``weighted_sum`` is the whole loss, ``supervised`` without
        the weak parts, and ``weak_taylor`` and ``weak_spatial`` are these as added.

        Raises:
            WeakLossError: if the training module is not a weak one.
            NonFiniteWeakLossError: if a part of the loss is not finite.
        """
        if self.run is None:
            raise WeakLossError(
                f"{type(self).__name__} was called outside of a weak training module: set "
                "training_module._target_ to mace_weak.nequip.train.WeakLightningModule (or "
                "WeakEMALightningModule, WeakScheduleFreeLightningModule)"
            )
        metrics = super().forward(preds, target, prefix, suffix)
        self._require_finite_supervised()
        penalties = self._penalties(self.run, preds, target)
        values = {term: self[self.parts[term]](penalties[term]) for term in self.parts}
        return self._with_parts(metrics, values, prefix, suffix)

    def compute(self, prefix: str = "", suffix: str = "") -> dict[str, Tensor]:
        """nequip's metrics of an epoch, the weak parts among them."""
        metrics = super().compute(prefix, suffix)
        values = {term: self[name].compute() for term, name in self.parts.items()}
        return self._with_parts(metrics, values, prefix, suffix)

    def reset(self) -> None:
        super().reset()
        for name in self.parts.values():
            self[name].reset()

    def _require_finite_supervised(self) -> None:
        """One step with such a loss would spoil the parameters."""
        for name, entry in self.entries.items():
            value = self.metrics_values_step[name]
            if entry.coeff is not None and not math.isfinite(value):
                epoch, step = self.place
                raise NonFiniteWeakLossError(
                    f"the supervised loss is {value} ({name}) at epoch {epoch}, step {step}: lower "
                    "the learning rate. The checkpoints are intact."
                )

    def _with_parts(
        self, metrics: dict[str, Tensor], values: dict[str, Tensor], prefix: str, suffix: str
    ) -> dict[str, Tensor]:
        total = f"{prefix}weighted_sum{suffix}"
        supervised = metrics.pop(total)
        metrics[f"{prefix}supervised{suffix}"] = supervised
        for term, value in values.items():
            metrics[f"{prefix}{self.parts[term]}{suffix}"] = value
        metrics[total] = supervised + torch.stack(list(values.values())).sum()
        return metrics

    def _penalties(self, run: WeakRun, preds: Graph, target: Graph) -> dict[str, Tensor]:
        """The weighted penalty of each structure of the batch (n_structures,), for each term."""
        course, (epoch, step) = run.course, self.place
        n_atoms = target[AtomicDataDict.NUM_NODES_KEY]
        nothing = torch.zeros(n_atoms.shape, device=n_atoms.device)
        weights = course.weights(epoch, step, self.learning_rate)
        numbers = target[STRUCTURE].view(-1).tolist()
        rows = course.rows(numbers, epoch) if weights else []
        if not rows:
            return dict.fromkeys(self.parts, nothing)
        structures = [numbers[row] for row in rows]
        residuals = run.residuals(
            preds, target, rows=rows, structures=structures, terms=tuple(weights), epoch=epoch
        )
        sizes = per_structure(n_atoms, rows)
        scale = self._energy_coefficient() / self.options.fraction
        penalties = {
            term: scale * weights[term] * self._penalty(course, term, residual, sizes)
            for term, residual in residuals.items()
        }
        require_finite(
            {term: float(penalty.detach().sum()) for term, penalty in penalties.items()},
            residuals,
            structures,
            epoch=epoch,
            step=step,
            counted="counted from 0",
        )
        where = torch.tensor(rows, device=n_atoms.device)
        return dict.fromkeys(self.parts, nothing) | {
            term: nothing.to(penalty).index_copy(0, where, penalty)
            for term, penalty in penalties.items()
        }

    def _penalty(self, course: Course, term: str, residual: Tensor, sizes: Tensor) -> Tensor:
        """ℓ of a term's residuals (n_rows,), of structures of these sizes."""
        if term == FORCES:  # squared already
            return residual
        factor = 1 if self.per_atom_energy else sizes
        return squared(factor * course.per_size(residual, sizes))

    def _energy_coefficient(self) -> float:
        coefficient = self.entries[self.energy_metric].coeff
        if not coefficient:
            raise WeakLossError(
                "the coefficient of the energy became zero, and the weak weights are relative to it"
            )
        return coefficient


class WeakTaylorLoss(WeakLoss):
    """The Taylor-expansion consistency (PITC); see ``WeakLoss``."""

    name = "weak_taylor"


class WeakSpatialLoss(WeakLoss):
    """The spatial consistency (PISC); see ``WeakLoss``."""

    name = "weak_spatial"


class WeakPIWSLoss(WeakLoss):
    """Both; see ``WeakLoss``."""

    name = "weak_piwsl"


def checked_options(name: str, given: Mapping[str, Any]) -> WeakOptions:
    """The options of the weak loss ``name``.

    Raises:
        WeakLossError: if one is unknown, out of its range, or has no effect.
    """
    keys = [option.key for option in OPTIONS if option.name != "heads"]
    unknown = [key for key in given if key not in keys]
    if f"{PREFIX}heads" in unknown:
        raise WeakLossError("weak_heads has no effect: nequip's models have no heads")
    if unknown:
        raise WeakLossError(
            f"unknown option {', '.join(unknown)}: the options of the weak losses are "
            f"coeffs, per_atom_energy, per_type_forces_coeffs, ignore_nan, extra_metrics, "
            f"{', '.join(keys)}"
        )
    options = WeakOptions.from_mapping(given)
    refuse_idle(name, given, anchor=options.anchor)
    return options
