"""The recipe of molecules beyond the cutoff: its data, and a run on a few dimers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from datafiles import HOSTS, RECIPES, run_recipe

if HOSTS["mace"] is None:
    pytest.skip("the long-range models are MACE's", allow_module_level=True)

from mace.calculators import MACECalculator
from predictions import calculated

from mace_weak.command.finetune_files import LABELS, LESSONS
from recipes.long_range import run
from recipes.long_range.make_data import FILES, PAIRS, ammonium, dimer, labelled

LONG_RANGE = RECIPES / "long_range"


def lines(table: str) -> list[list[str]]:
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_data_are_those_of_the_script():
    for name, file in FILES.items():
        frames = read(LONG_RANGE / "data" / f"{name}.xyz", ":")
        assert len(frames) == file.count * len(PAIRS)
        for atoms in frames[:3]:
            assert file.distances[0] <= atoms.info["distance"] <= file.distances[1]
            again = labelled(atoms.copy(), file.level, forces=file.forces)
            assert again.info["REF_energy"] == pytest.approx(atoms.info["REF_energy"], abs=1e-4)
            assert ("REF_forces" in atoms.arrays) == file.forces
        forces = [atoms.arrays.get("REF_forces") for atoms in frames]
        assert all((own is not None) == file.forces for own in forces)


def test_ions_repel_by_the_law_of_coulomb_where_they_are_far_apart():
    one = ammonium()
    energies = [
        labelled(dimer(one, one, 2, distance), "GFN2-xTB", forces=False).info["REF_energy"]
        for distance in (12.0, 16.0)
    ]
    coulomb = 14.3996 * (1 / 12 - 1 / 16)  # eV
    assert energies[0] - energies[1] == pytest.approx(coulomb, rel=0.05)


def test_the_force_between_two_molecules_is_the_net_force_on_one():
    atoms = Atoms("OHHCN", np.zeros((5, 3)), info={"n_first": 3})
    forces = np.arange(15.0).reshape(5, 3)
    np.testing.assert_allclose(run.between(forces, atoms), forces[:3].sum(axis=0))


@pytest.mark.slow
def test_the_recipe_runs_on_a_few_dimers(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, count in {"foundation": 12, "train": 10, "near": 3, "far": 3, "scan": 4}.items():
        write(data / f"{name}.xyz", read(LONG_RANGE / "data" / f"{name}.xyz", f":{count}"))
    out = tmp_path / "out"
    table = run_recipe(
        LONG_RANGE / "run.py", "--foundation-epochs=1", "--epochs=1", "--models", "long range",
        "--finetune-steps=50", f"--data={data}", f"--out={out}",
    )  # fmt: skip
    assert (out / "distance.png").stat().st_size > 10_000
    found = lines(table)
    assert [row[:2] for row in found] == [["long range", road] for road in run.ROADS]
    assert all(float(cell) > 0 for row in found for cell in row[2:])
    (model,) = out.glob("finetune-*/model.model")
    (trained,) = (
        path
        for name in (LESSONS, LABELS)
        for path in out.glob(f"finetune-*/model.model.work/{name}")
    )
    charges = {atoms.info["total_charge"] for atoms in read(data / "train.xyz", ":")}
    assert {atoms.info["total_charge"] for atoms in read(trained, ":")} == charges != {0}
    calculator = MACECalculator(
        models=torch.load(model, weights_only=False), device="cpu", model_type="PolarMACE"
    )
    ((energy, _),) = calculated(calculator, [read(data / "near.xyz")])
    assert np.isfinite(energy)
