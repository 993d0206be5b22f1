"""What the labels determine beside the surface."""

from __future__ import annotations

import numpy as np
import pytest

from mace_weak.tangent.labels import Labels


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[2, 6, 1], [2, 6, 1]], [True, True, True]),
        ([[2, 6, 0], [2, 6, 0]], [True, True, False]),  # the third kind is in no structure
        ([[4, 0, 0], [0, 2, 1]], [False, True, True]),
        ([[4, 1, 0], [2, 1, 0], [1, 1, 1]], [False, False, False]),
    ],
)
def test_which_atoms_have_energies_only_in_sums(counts, expected):
    counts = np.array(counts)
    labels = Labels(counts, np.zeros(len(counts)), [None] * len(counts))
    assert labels.undetermined_atoms.tolist() == expected


def test_structures_without_an_energy_determine_no_atoms():
    labels = Labels(np.array([[4, 1], [2, 1]]), np.array([0.0, np.nan]), [None, None])
    assert labels.undetermined_atoms.tolist() == [True, True]
