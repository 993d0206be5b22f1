"""Molecules of a public collection become files of the benchmark."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.io import read, write
from datafiles import RECIPES, run_recipe

from recipes.benchmark.make_molecules import MOLECULES


def test_labels_are_kept_and_the_files_are_apart(tmp_path):
    """In a folder laid out as the collection is, with a structure of another size in each file."""
    generator = np.random.default_rng(0)
    for part in MOLECULES.values():
        frames = []
        for number, size in enumerate([part.n_atoms] * 500 + [2]):
            atoms = Atoms(f"H{size}", generator.normal(size=(size, 3)), cell=[50] * 3)
            atoms.info["energy"] = -float(number)
            atoms.arrays["forces"] = generator.normal(size=(size, 3))
            frames.append(atoms)
        (tmp_path / part.file).parent.mkdir(exist_ok=True)
        write(tmp_path / part.file, frames)
    run_recipe(RECIPES / "benchmark" / "make_molecules.py", tmp_path, f"--out={tmp_path}")
    found = {name: read(tmp_path / f"{name}.xyz", ":") for name in MOLECULES}
    for name, part in MOLECULES.items():
        assert {len(atoms) for atoms in found[name]} == {part.n_atoms}
        source = read(tmp_path / part.file, ":")
        for atoms in found[name]:
            before = source[round(-atoms.info["REF_energy"])]
            assert np.allclose(atoms.positions, before.positions, atol=1e-6)
            assert np.allclose(atoms.arrays["REF_forces"], before.get_forces(), atol=1e-6)
            assert not atoms.pbc.any()
    train, test = (
        {atoms.info["REF_energy"] for atoms in found[name]} for name in ("3bpa_train", "3bpa_test")
    )
    assert len(train) == 400
    assert not train & test
