"""A fine-tuned model has the energies of the atoms that ``--E0s`` names."""

from __future__ import annotations

import pytest
import torch
from training import ALL_ELEMENTS, ATOMIC_ENERGIES, FINETUNE, atomic_energies, train

from recipes.quickstart.mace_host import supervised


def test_with_a_weak_loss_they_are_those_asked_for(tmp_path, finetune_flags):
    run = train(tmp_path, *finetune_flags, *ALL_ELEMENTS, "--loss=weak_taylor")
    assert run.atomic_energies == list(ATOMIC_ENERGIES.values())
    assert "the model has the energies of the atoms of --E0s" in run.log


def test_mace_itself_keeps_the_foundations(tmp_path, finetune_flags, foundation):
    """When it no longer does, ``mace_weak.mace.anchor`` and the patch can go."""
    run = train(tmp_path, *finetune_flags, *ALL_ELEMENTS, "--loss=weighted")
    assert run.atomic_energies == atomic_energies(torch.load(foundation, weights_only=False))


def test_elements_that_the_data_lack_keep_the_foundations(tmp_path, finetune_flags, foundation):
    """Estimated ones are those of ethanol's elements alone."""
    run = train(tmp_path, *finetune_flags, "--foundation_model_elements=True", "--loss=weak_taylor")
    before = atomic_energies(torch.load(foundation, weights_only=False))
    assert run.atomic_energies[2] == before[2]  # nitrogen
    assert all(abs(run.atomic_energies[place] - before[place]) > 1 for place in (0, 1, 3))


@pytest.mark.parametrize(("data", "lost"), [("ethanol", False), ("molecules", True)])
def test_plain_trainings_of_the_recipes_have_them(tmp_path, files, foundation, data, lost):
    """On the elements of the foundation, or on fewer."""
    structures = getattr(files, data)
    flags = {
        **supervised("weighted", str(foundation), structures),
        "foundation_model": foundation,
        "train_file": structures,
    }
    assert (flags["loss"] != "weighted") == lost
    asked = {z: energy for z, energy in ATOMIC_ENERGIES.items() if lost or z != 7}
    run = train(tmp_path, *FINETUNE, f"--E0s={asked}", *(f"--{k}={v}" for k, v in flags.items()))
    assert run.atomic_energies == list(asked.values())
