"""What the evidence chose, in words and numbers of a chemist."""

from __future__ import annotations

from collections.abc import Mapping

from mace_weak.agreement import EnergyAgreement
from mace_weak.command.output import Finding, Table
from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.tangent.fit import Account

WORDS = {
    TAYLOR: "keeps the curvature of the foundation model (Taylor term)",
    SPATIAL: "keeps it at displaced places too (spatial term)",
    FORCES: "keeps the forces of the foundation model (order 0)",
}
STRENGTHS = ((0.03, "hardly"), (1.0, "lightly"), (100.0, "clearly"), (float("inf"), "firmly"))


def undecided(account: Account, agreement: EnergyAgreement) -> Finding | None:
    """Why the closed form is not taken, if it is not."""
    settled = f"these labels settle {100 * account.explained:.0f} % of the forces' variance"
    if agreement.another_surface:
        if account.trusted_anew:
            return None
        return Finding(
            f"the foundation model leaves {agreement}: its surface is another one, and {settled}, "
            "too little for the closed form from there: the model was trained plainly instead",
            "choose another foundation model, or label more structures or forces",
        )
    if account.trusted:
        return None
    return Finding(
        f"{settled}, too little for the closed form: the model was trained with the anchored loss "
        "(weak_taylor) instead",
        "label more structures of the same kind, or a few with forces: one is worth as many "
        "labels as it has coordinates",
    )


def chosen_table(account: Account) -> Table:
    """Noise, force scale and weights."""
    choice = account.choice
    rows: list[list[object]] = [
        ["labels", account.energies, "energies"],
        ["what a linear correction leaves", 1e3 * choice.noise, "meV/√atoms, taken as noise"],
        [
            "forces of the foundation model are off by",
            1e3 * account.foundation_force_error,
            "meV/Å, as the energies suggest",
        ],
        ["forces of the correction", 1e3 * account.force_change, "meV/Å"],
    ]
    if account.force_components:
        rows.insert(1, ["labels", account.force_components, "components of forces"])
        rows.insert(3, ["noise of the forces", 1e3 * choice.force_noise, "meV/Å"])
    rows += [
        [f"weight of {term}", weight, f"{_strength(weight)} {WORDS[term]}"]
        for term, weight in choice.weights.items()
    ]
    return Table("What the evidence chose", ("quantity", "value", "meaning"), rows)


def _strength(weight: float) -> str:
    return next(word for limit, word in STRENGTHS if weight < limit)


def expected_table(account: Account, decided: Finding | None) -> Table:
    """Errors to expect, before any test."""
    rows = [
        ["energies, meV/atom", 1e3 * account.energy_error, "each predicted from the others"],
        ["forces, meV/Å", 1e3 * account.force_error, "posterior, near the training structures"],
    ]
    if decided is not None:
        rows = [[what, value, "of the closed form, which was not used"] for what, value, _ in rows]
    return Table("Errors to expect (RMSE)", ("of", "value", "how"), rows)


def seconds_table(seconds: Mapping[str, float]) -> Table:
    """The time of each part."""
    return Table(
        "Time", ("part", "s"), [[part, round(spent, 1)] for part, spent in seconds.items()]
    )
