"""The kinds of MACE models that the losses train: what each reads of a batch, and what it gives.

Beside the short-range ones there are two with long-range electrostatics: ``PolarMACE``, of charges
that respond to the field of the others, and ``MACELES``, of latent charges (Cheng, npj Comput.
Mater. 11, 80 (2025), arXiv:2408.15165).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.versions import GRAPH_LONGRANGE, LES, installed, supported

POLAR, LATENT = "PolarMACE", "MACELES"
SHORT_RANGE, LONG_RANGE = ("MACE", "ScaleShiftMACE"), (POLAR, LATENT)

MACE_OMOL = "mace_omol"  # a foundation model that reads charge and spin

# interactions of a PolarMACE whose weights MACE 0.3.16 takes from a foundation model
TRANSFERRED = ("RealAgnosticResidualNonLinearInteractionBlock",)
# what the models read of each structure beside its cell and head
INPUTS: Mapping[str, Sequence[str]] = {
    POLAR: (
        "pbc", "rcell", "volume", "total_charge", "total_spin", "fermi_level", "external_field",
    ),
    LATENT: ("pbc",),
}  # fmt: skip


def kind_of(model: torch.nn.Module) -> str:
    """The name that ``mace_run_train --model`` has for a model: ``ScaleShiftMACE`` or another."""
    return type(model).__name__


def kind_flag(model: torch.nn.Module) -> list[str]:
    """What ``mace_run_train`` needs to fine-tune a model, which it takes for a short-range one."""
    return [f"--model={kind_of(model)}"] if kind_of(model) in LONG_RANGE else []


def require_library(kind: str) -> None:
    """Check that the library is there which a kind of models needs.

    Raises:
        WeakLossError: if it is not, or in another version than MACE works with.
    """
    if kind == LATENT and installed(LES) is None:
        raise WeakLossError(
            f"{LATENT} needs the package {LES}, which is not installed: pip install "
            "git+https://github.com/ChengUCB/les (licence CC BY-NC)"
        )
    if kind != POLAR:
        return
    requirement, found = supported(GRAPH_LONGRANGE), installed(GRAPH_LONGRANGE)
    if found is None or not requirement.specifier.contains(found, prereleases=True):
        raise WeakLossError(
            f"{POLAR} needs {GRAPH_LONGRANGE} {requirement.specifier}, found {found or 'none'}: "
            "pip install 'mace-weak[longrange]'"
        )


def require_finetunable(model: torch.nn.Module, path: str, *, kind: str) -> None:
    """Check that MACE can begin a model of a ``kind`` from a foundation model.

    Raises:
        WeakLossError: if it cannot.
    """
    found = kind_of(model)
    if found in LONG_RANGE and found != kind:
        raise WeakLossError(f"'{path}' is a {found}: add --model={found}")
    if kind in LONG_RANGE and found != kind:
        raise WeakLossError(
            f"MACE cannot begin a {kind} from a {found}: train it from scratch, with "
            f"--weak_anchor={path} in place of --foundation_model"
        )
    blocks = {type(block).__name__ for block in getattr(model, "interactions", ())}
    if found == POLAR and blocks - set(TRANSFERRED):
        raise WeakLossError(
            f"MACE 0.3.16 cannot fine-tune a {POLAR} with interactions of {', '.join(blocks)}: it "
            f"transfers the weights of {', '.join(TRANSFERRED)} only"
        )


def extra_inputs(*models: torch.nn.Module | None) -> Sequence[str]:
    """Names of the inputs of the models beyond the usual ones: of their kind, and embeddings."""
    names: set[str] = set()
    for model in models:
        if model is not None:
            names.update(INPUTS.get(kind_of(model), ()), _embeddings(model))
    return sorted(names)


def _embeddings(model: Any) -> Mapping[str, Any]:
    return getattr(model, "embedding_specs", None) or {}


def position_energy(model: torch.nn.Module, graph: Any, output: Mapping[str, Tensor]) -> Tensor:
    """Energies (n_structures,) in eV without the atoms' own, from the ``output`` for a ``graph``.

    Those cancel in every residual, and all-electron energies would leave float32 few digits. The
    long-range parts belong to it, which ``interaction_energy`` leaves out.
    """
    kind = kind_of(model)
    if kind == POLAR:
        work = (output["external_field"] * output["dipole"]).sum(dim=-1)
        long_range = output["electrostatic_energy"] + output["electron_energy"] + work
        return output["interaction_energy"] + long_range
    if kind == LATENT:
        short_range = output["node_energy"] - _atoms_alone(model, graph)  # in float64
        total = torch.zeros_like(output["energy"], dtype=short_range.dtype)
        total = total.index_add(0, graph["batch"], short_range)
        return total.to(output["energy"].dtype) + output["les_energy"]
    return output.get("interaction_energy", output["energy"])


def _atoms_alone(model: Any, graph: Any) -> Tensor:
    """Energies (n_atoms,) in eV of the atoms alone."""
    heads = graph["head"][graph["batch"]]
    energies = torch.atleast_2d(model.atomic_energies_fn(graph["node_attrs"]))
    return energies[torch.arange(len(heads), device=heads.device), heads]
