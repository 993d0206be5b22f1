"""A Python with nequip but without mace-weak."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

BUILD = "from nequip.scripts.package import main; main()"
ENERGY_OF = """
import sys
try:
    import mace_weak
except ImportError:
    pass
else:
    raise SystemExit("mace_weak is here")
from nequip.integrations.ase import NequIPCalculator
from ase.io import read
calculator = NequIPCalculator._from_saved_model(
    sys.argv[1], chemical_species_to_atom_type_map=True
)
atoms = read(sys.argv[2])
atoms.calc = calculator
print("energy:", atoms.get_potential_energy())
"""
COMPILED = ENERGY_OF.replace("_from_saved_model", "from_compiled_model")


@pytest.fixture(scope="session")
def without_mace_weak(tmp_path_factory) -> Path:
    """An environment with all that is here but mace-weak: its Python."""
    folder = tmp_path_factory.mktemp("stock")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "mace_weak" not in entry.name and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def stock(python: Path, folder: Path, *arguments: str | Path) -> str:
    """What a Python without mace-weak prints."""
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def energy_in(output: str) -> float:
    return float(output.rpartition("energy:")[2])
