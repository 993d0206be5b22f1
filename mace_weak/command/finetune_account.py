"""What ``mace-weak finetune`` says of a solution: whether it is used, what it chose and expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms

from mace_weak.command.error_bars import FAR
from mace_weak.command.output import Finding, Table
from mace_weak.compositions import EnergyAgreement
from mace_weak.losses import FORCES, SPATIAL, TAYLOR
from mace_weak.misread import float32_steps
from mace_weak.tangent.fit import SETTLED, SETTLED_ANEW, Account

FEW = 5  # structures
WORDS = {
    TAYLOR: "keeps the curvature of the foundation model (Taylor term)",
    SPATIAL: "keeps it at displaced positions too (spatial term)",
    FORCES: "keeps the forces of the foundation model (order 0)",
}
STRENGTHS = ((0.03, "hardly"), (1.0, "lightly"), (100.0, "clearly"), (float("inf"), "firmly"))


def not_in_closed_form(account: Account, agreement: EnergyAgreement) -> Finding | None:
    """Why the closed form is not used, if it is not."""
    enough = SETTLED_ANEW if agreement.another_scale else SETTLED
    if account.explained >= enough or (account.trusted and not agreement.another_surface):
        return None
    share = max(0.0, account.explained)
    why = f"these labels determine {100 * share:.0f} % of the forces' variance"
    mend = (
        "label more structures of the same kind, or a few with forces: one is worth as many "
        "labels as it has coordinates"
    )
    if agreement.another_surface:
        why = f"the foundation model leaves {agreement}: it disagrees with your labels, and {why}"
        mend = "choose another foundation model, or label more structures or forces"
    loss = (
        "without an anchor" if agreement.another_scale else "with the anchored loss (weak_taylor)"
    )
    return Finding(
        f"{why}, too little for the closed form: the model was trained {loss} instead", mend
    )


def misspecified(account: Account) -> Iterator[Finding]:
    """Energies that are predicted from the others much worse than expected."""
    ratio = account.calibration**0.5
    if ratio > FAR:
        yield Finding(
            f"each energy is predicted from the others with {ratio:.2g} times the error to expect: "
            "a linear correction of the foundation model does not suit these labels",
            "take the expected errors as lower bounds; correct what mace-weak check finds",
        )


def hold_nearby(n_structures: int) -> Iterator[Finding]:
    """Few structures, of which the errors to expect say nothing of others."""
    if n_structures < FEW:
        yield Finding(
            f"there are few labelled structures ({n_structures}): the errors to expect hold near "
            "them, and the model may become worse elsewhere",
            "see the error bars of other structures, which need no labels: mace-weak evaluate "
            "MODEL STRUCTURES",
        )


def rounded(frames: Sequence[Atoms], energies: np.ndarray, account: Account) -> Iterator[Finding]:
    """Total ``energies`` (…, n_structures) in eV that single precision rounds too much.

    By more for an atom than their error to expect.
    """
    sizes = np.array([len(atoms) for atoms in frames])
    step = float(np.nanmax(float32_steps(energies) / sizes, initial=0))
    if step > account.energy_error:
        yield Finding(
            f"the model is of float32, which rounds these total energies by {1e3 * step:.2g} "
            "meV/atom, more than their error to expect",
            "take the energies of the atoms off the labels, or give a foundation model of float64",
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
        [f"weight of {term}", choice.weights.get(term, 0.0), _strength(term, account)]
        for term in account.inclusion
    ]
    return Table("What the evidence chose", ("quantity", "value", "meaning"), rows)


def _strength(term: str, account: Account) -> str:
    """What a term does, in words, and how probably."""
    weight = account.choice.weights.get(term, 0.0)
    how = next(word for limit, word in STRENGTHS if weight < limit)
    return f"{how} {WORDS[term]}, with probability {account.inclusion[term]:.2f}"


def expected_table(account: Account, decided: Finding | None) -> Table:
    """Errors to expect, before any test."""
    rows: list[list[object]] = [
        ["energies, meV/atom", 1e3 * account.energy_error, "each predicted from the others"],
        ["forces, meV/Å", 1e3 * account.force_error, "posterior, near the training structures"],
    ]
    if decided is not None:
        rows = [[what, value, "of the closed form, which was not used"] for what, value, _ in rows]
    return Table("Errors to expect (RMSE)", ("of", "value", "how"), rows)
