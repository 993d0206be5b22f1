"""The energies of the atoms that a fine-tuned model has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

NOTABLE = 1e-3  # eV


def take_atomic_energies(model: torch.nn.Module, asked: np.ndarray) -> None:
    """Let ``model`` have these energies of the atoms, (n_heads, n_elements) in eV.

    MACE 0.3.16 copies all of a foundation model that has the shape of the new one's, and so its
    energies of the atoms too, if both know the same number of elements and have the same number of
    heads: ``--E0s`` is ignored then.
    """
    energies = _energies_of(model)
    wanted = torch.as_tensor(asked).to(energies).reshape(energies.shape)
    if (wanted - energies).abs().max() > NOTABLE:
        logging.info(
            "Weak losses: the model has the energies of the atoms of --E0s, and not the foundation "
            "model's, which MACE silently takes where it has as many elements as the data"
        )
    energies.copy_(wanted)


def asked_for(built: Mapping[str, Any]) -> np.ndarray:
    """What ``--E0s`` asks for, from the arguments of MACE's ``configure_model``.

    With ``--foundation_model_elements=True`` that does not cover the elements that the data of a
    head lack. MACE gives these 0 eV; here they have the foundation model's energies.
    """
    asked = np.array(built["atomic_energies"], ndmin=2)
    foundation = built.get("model_foundation")
    if foundation is None:
        return asked
    own = np.atleast_2d(_energies_of(foundation).cpu().numpy())[0]
    known = dict(zip(foundation.get_buffer("atomic_numbers").tolist(), own, strict=True))
    for config in built.get("head_configs") or ():
        row = asked[built["heads"].index(config.head_name)]
        for place, number in enumerate(built["z_table"].zs):
            if row[place] == 0 and number not in config.atomic_numbers:
                row[place] = known.get(number, 0.0)
    return asked


def _energies_of(model: torch.nn.Module) -> torch.Tensor:
    return model.get_submodule("atomic_energies_fn").get_buffer("atomic_energies")
