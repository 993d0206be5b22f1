"""The quickstart runs, and its data is what its script says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from ase.io import read, write
from datafiles import HOSTS, QUICKSTART, run_recipe, write_files

from recipes.quickstart import processes
from recipes.quickstart.make_data import closed_shell_molecules
from recipes.quickstart.run import CBS

DATA = QUICKSTART / "data"


@pytest.mark.parametrize("host", [host for host, version in HOSTS.items() if version])
def test_the_quickstart_trains_and_compares(tmp_path, host):
    """Shrunk to few epochs and structures."""
    for name, count in (("train", 50), ("test", 16)):
        write(tmp_path / f"{name}.xyz", read(CBS / f"{name}.xyz", f":{count}"))
    output = run_recipe(
        QUICKSTART / "run.py", f"--host={host}", f"--out={tmp_path}", "--epochs=4",
        "--foundation-epochs=1", f"--foundation-data={write_files(tmp_path).molecules}",
        f"--train={tmp_path / 'train.xyz'}", f"--test={tmp_path / 'test.xyz'}",
        "--finetune-steps=50",
    )  # fmt: skip
    rows = [line.split("|")[1:-1] for line in output.splitlines() if line.startswith("| ")]
    values = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows[2:]}
    assert list(values) == ["foundation model", "plain", "weak_taylor", "finetune"]
    assert values["plain"] != values["weak_taylor"]
    assert all(np.isfinite(row).all() and row[1] > 0 for row in values.values())
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000


def test_training_files_have_energies_and_test_files_forces():
    for frame in read(DATA / "ethanol_pbe_train.xyz", ":"):
        assert "REF_energy" in frame.info
        assert "REF_forces" not in frame.arrays
    test = read(DATA / "ethanol_pbe_test.xyz", ":")
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in test])
    assert 0.5 < np.sqrt(np.mean(forces**2)) < 2.0
    assert max(np.abs(frame.arrays["REF_forces"].sum(0)).max() for frame in test) < 0.05


def test_the_molecules_are_those_of_the_script():
    names = [frame.info["name"] for frame in read(DATA / "molecules_gfn1.xyz", ":")]
    assert list(dict.fromkeys(names)) == closed_shell_molecules()
    assert len(set(names)) == 57


def test_gfn1_labels_are_reproduced():
    ase_calculator = pytest.importorskip("tblite.ase", reason="tblite is not installed")
    for frame in read(DATA / "molecules_gfn1.xyz", "::200"):
        expected, forces = frame.info["REF_energy"], frame.arrays["REF_forces"]
        frame.calc = ase_calculator.TBLite(method="GFN1-xTB", verbosity=0)
        assert frame.get_potential_energy() == pytest.approx(expected, abs=1e-3)
        np.testing.assert_allclose(frame.get_forces(), forces, atol=5e-3)


def test_a_training_that_was_killed_is_done_anew(tmp_path):
    """It left a model, but not the time that it took."""
    script = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).open('x'); time.sleep(0.2)"
    call = partial(
        processes.trained, tmp_path, "small", ["python", "-c", script], None,
        product="model", place=lambda folder: str(folder / "model"),
        epochs=1, epoch=None, threads=1, quiet=True,
    )  # fmt: skip
    seconds = call().with_name("seconds")
    seconds.write_text("kept")
    call()
    assert seconds.read_text() == "kept"
    seconds.unlink()
    call()
    assert float(seconds.read_text()) > 0
