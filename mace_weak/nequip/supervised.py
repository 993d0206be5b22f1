"""The supervised part of a weak loss, as entries of nequip's ``MetricsManager``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nequip.data import AtomicDataDict
from nequip.train import MeanSquaredError
from torch import Tensor

from mace_weak.errors import WeakLossError

ENERGY = AtomicDataDict.TOTAL_ENERGY_KEY
FORCES = AtomicDataDict.FORCE_KEY
STRESS = AtomicDataDict.STRESS_KEY
# nequip's names of the energy metric, by whether it is per atom
ENERGY_METRIC = {True: "per_atom_energy_mse", False: "total_energy_mse"}
MANAGER = "nequip.train.MetricsManager"
METRIC = "nequip.train.MeanSquaredError"
OWN_METRIC = f"{__name__}.LabelledMeanSquaredError"


class LabelledMeanSquaredError(MeanSquaredError):
    """nequip's mean squared error, but zero in a batch of which no structure has the label.

    The mean over nothing is NaN, and one such step would spoil the parameters.
    """

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        return super().forward(preds, target) if len(target) else preds.sum()


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
    unknown = (set(chosen) | set(ignore_nan)) - {ENERGY, FORCES, STRESS}
    if unknown:
        raise WeakLossError(
            f"coeffs and ignore_nan are of {ENERGY}, {FORCES} and {STRESS}, not of "
            f"{', '.join(sorted(unknown))}"
        )
    if not chosen.get(ENERGY, 0) > 0 or min(chosen.values()) < 0:
        raise WeakLossError(
            f"coeffs must have a positive {ENERGY}, which the weak weights are relative to, and no "
            f"negative one: coeffs: {{{ENERGY}: 1.0}} trains on energies alone, "
            f"{{{ENERGY}: 1.0, {FORCES}: 1.0}} on both"
        )
    entries = [_entry(field, coeff, ignore_nan, metric) for field, coeff in chosen.items()]
    for entry in entries:
        if entry["field"] == ENERGY:
            entry["name"] = ENERGY_METRIC[per_atom_energy]
            if per_atom_energy:
                entry["field"] = {"_target_": "nequip.data.PerAtomModifier", "field": ENERGY}
        if entry["field"] == FORCES and per_type_forces_coeffs is not None:
            entry |= {"per_type": True, "per_type_coeffs": dict(per_type_forces_coeffs)}
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
