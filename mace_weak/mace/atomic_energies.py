"""The energies of the atoms that a fine-tuned model has."""

from __future__ import annotations

import logging

import numpy as np
import torch

NOTABLE = 1e-3  # eV


def take_atomic_energies(model: torch.nn.Module, asked: np.ndarray) -> None:
    """Let ``model`` have the energies of the atoms that MACE has read from ``--E0s``.

    MACE 0.3.16 copies all of a foundation model that has the shape of the new one's, and so its
    energies of the atoms too, if both know the same number of elements and have the same number of
    heads: ``--E0s`` is lost then. ``asked`` (n_heads, n_elements) in eV.
    """
    energies = model.get_submodule("atomic_energies_fn").get_buffer("atomic_energies")
    wanted = torch.as_tensor(asked).to(energies).reshape(energies.shape)
    if (wanted - energies).abs().max() > NOTABLE:
        logging.info(
            "Weak losses: the model has the energies of the atoms of --E0s, and not the foundation "
            "model's, which MACE takes without a word where it has as many elements as the data"
        )
    energies.copy_(wanted)
