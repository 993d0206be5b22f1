"""What the quickstart takes from a foundation model of nequip that the user names."""

from __future__ import annotations

import pytest
from ase.io import read
from predictions import relabelled

from mace_weak.command.models import load_model
from recipes.quickstart import nequip_host


def test_the_atomic_energies_are_the_foundations_own(tmp_path, files, foundation):
    """Where the labels are the foundation's, they stay what they are, whatever its zero."""
    labelled = relabelled(tmp_path / "labelled.xyz", read(files.molecules, ":"), foundation)
    own = load_model(str(foundation)).atomic_energies
    shifts = nequip_host.estimated_shifts(str(foundation), labelled, device="cpu")
    assert shifts == pytest.approx(own, abs=1e-3)
