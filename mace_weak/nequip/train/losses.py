"""The weak losses, in the style of nequip's ``EnergyForceLoss``, with its metrics as entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from hydra.utils import instantiate
from nequip.data import AtomicDataDict, Mean
from nequip.train import MeanSquaredError, MetricsManager
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.losses import FORCES, LOSSES, loss_terms
from mace_weak.nequip import STRUCTURE
from mace_weak.nequip.graphs import Graph, subset_of
from mace_weak.nequip.run import WeakRun
from mace_weak.options import OPTIONS, PREFIX, TANGENT, WeakOptions, refuse_without_effect
from mace_weak.step import penalties_of, require_finite, require_finite_supervised, squared

ENERGY_KEY = AtomicDataDict.TOTAL_ENERGY_KEY
FORCE_KEY = AtomicDataDict.FORCE_KEY
STRESS_KEY = AtomicDataDict.STRESS_KEY
# nequip's names of the energy metric, by whether it is per atom
ENERGY_METRIC = {True: "per_atom_energy_mse", False: "total_energy_mse"}
MANAGER = "nequip.train.MetricsManager"
METRIC = "nequip.train.MeanSquaredError"
LABELLED_METRIC = f"{__name__}.LabelledMeanSquaredError"


class LabelledMeanSquaredError(MeanSquaredError):
    """nequip's mean squared error, but zero where no structure of a step has the label.

    The mean over nothing is NaN, and one such step would spoil the parameters.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # of the precision after an update, as processes exchange it, also those without a label
        self.add_state("sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        value = super().forward(preds, target)
        return preds.sum() if torch.isnan(value) and not len(target) else value


def supervised_metrics(
    coeffs: Mapping[str, float | None] | None,
    *,
    per_atom_energy: bool,
    per_type_forces_coeffs: Mapping[str, float] | None,
    ignore_nan: Mapping[str, bool],
    metric: str = METRIC,
) -> list[dict[str, Any]]:
    """Configurations of the mean squared errors with a coefficient, under nequip's own names.

    Raises:
        WeakLossError: if a coefficient is unknown or negative, or the energy's is not positive.
    """
    chosen = chosen_coeffs(coeffs)
    unknown = (set(chosen) | set(ignore_nan)) - {ENERGY_KEY, FORCE_KEY, STRESS_KEY}
    if unknown:
        raise WeakLossError(
            f"coeffs and ignore_nan are of {ENERGY_KEY}, {FORCE_KEY} and {STRESS_KEY}, not of "
            f"{', '.join(sorted(unknown))}"
        )
    if not chosen.get(ENERGY_KEY, 0) > 0 or min(chosen.values()) < 0:
        raise WeakLossError(
            f"coeffs must have a positive {ENERGY_KEY}, which the weak weights are relative to, "
            f"and no negative one: coeffs: {{{ENERGY_KEY}: 1.0}} trains on energies alone, "
            f"{{{ENERGY_KEY}: 1.0, {FORCE_KEY}: 1.0}} on both"
        )
    entries = [_entry(field, coeff, ignore_nan, metric) for field, coeff in chosen.items()]
    for entry in entries:
        if entry["field"] == ENERGY_KEY:
            entry["name"] = ENERGY_METRIC[per_atom_energy]
            if per_atom_energy:
                entry["field"] = {"_target_": "nequip.data.PerAtomModifier", "field": ENERGY_KEY}
        if entry["field"] == FORCE_KEY and per_type_forces_coeffs is not None:
            if entry["ignore_nan"]:
                raise WeakLossError(
                    "per_type_forces_coeffs needs the forces of all structures: leave out it or "
                    "ignore_nan"
                )
            # nequip leaves out a type that a batch has not, which it knows by NaN
            entry |= {
                "metric": {"_target_": METRIC},
                "per_type": True,
                "per_type_coeffs": dict(per_type_forces_coeffs),
            }
    return entries


def chosen_coeffs(coeffs: Mapping[str, float | None] | None) -> dict[str, float]:
    """The coefficients that are given: null leaves a term out."""
    return {field: coeff for field, coeff in (coeffs or {}).items() if coeff is not None}


def supervised_loss(loss: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of nequip's own loss that a weak loss's configuration contains."""
    metrics = supervised_metrics(
        loss.get("coeffs"),
        per_atom_energy=loss.get("per_atom_energy", True),
        per_type_forces_coeffs=loss.get("per_type_forces_coeffs"),
        ignore_nan=loss.get("ignore_nan") or {},
    )
    return {"_target_": MANAGER, "metrics": [*metrics, *(loss.get("extra_metrics") or ())]}


def _entry(field: str, coeff: float, ignore_nan: Mapping[str, bool], metric: str) -> dict[str, Any]:
    return {
        "name": f"{field}_mse",
        "field": field,
        "coeff": coeff,
        "metric": {"_target_": metric},
        "ignore_nan": bool(ignore_nan.get(field, False)),
    }


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
        weak_options: the options of the weak losses (docs/options.md)

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
            metric=LABELLED_METRIC,
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
        # not among nequip's metrics, whose coefficients its callbacks set; so they are synchronised
        # between processes here, as nequip does with its own
        self.means = {term: Mean(dist_sync_on_step=True) for term in terms}
        self.run: WeakRun | None = None

    def attach(self, run: WeakRun) -> None:
        self.run = run

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
        self._require_finite_supervised(self.run)
        penalties = self._penalties(self.run, preds, target)
        values = {}
        for term, mean in self.means.items():
            values[term] = mean.to(penalties[term].device)(penalties[term])
        return self._with_parts(metrics, values, prefix, suffix)

    def compute(self, prefix: str = "", suffix: str = "") -> dict[str, Tensor]:
        """nequip's metrics of an epoch, the weak parts among them."""
        metrics = super().compute(prefix, suffix)
        values = {term: mean.compute() for term, mean in self.means.items()}
        return self._with_parts(metrics, values, prefix, suffix)

    def reset(self) -> None:
        super().reset()
        for mean in self.means.values():
            mean.reset()

    def _require_finite_supervised(self, run: WeakRun) -> None:
        place = run.place()
        for name, entry in self.entries.items():
            if entry.coeff is not None:
                value = self.metrics_values_step[name]
                require_finite_supervised(value, place.epoch, place.step, name)

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
        n_atoms = target[AtomicDataDict.NUM_NODES_KEY]
        nothing = torch.zeros(n_atoms.shape, device=n_atoms.device)
        none = dict.fromkeys(self.parts, nothing)
        step = run.schedule.step(run.place(), target[STRUCTURE].view(-1).tolist())
        if step is None or not step.rows:
            return none
        subset = subset_of(target, step.rows)
        residuals = run.residuals(step, subset, preds, target)
        penalties = penalties_of(
            step, subset, residuals, penalty=squared, n_atoms=n_atoms,
            scale=self._energy_coefficient(), per_atom=self.per_atom_energy,
        )  # fmt: skip
        sums = {term: float(penalty.detach().sum()) for term, penalty in penalties.items()}
        require_finite(step, sums, residuals, counted="counted from 0")
        return none | penalties

    def _energy_coefficient(self) -> float:
        coefficient = self.entries[self.energy_metric].coeff
        if not coefficient:
            raise WeakLossError(
                "the coefficient of the energy became zero, and the weak weights are relative to it"
            )
        return coefficient


@cache
def loss_class(name: str) -> type[WeakLoss]:
    """The class of the loss ``name``, which ``mace_weak.nequip.train`` has under its own name."""
    content = {
        "__doc__": f"The weak loss ``{name}``; see ``WeakLoss``.",
        "__module__": __package__,
        "name": name,
    }
    return type(LOSSES[name].class_name, (WeakLoss,), content)


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
    refuse_without_effect(name, given, anchor=options.anchor)
    return options
