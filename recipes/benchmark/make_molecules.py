"""Bring more molecules with labels by DFT, from a public collection.

    git clone https://github.com/davkovacs/BOTNet-datasets
    python -m recipes.benchmark.make_molecules BOTNet-datasets

The collection (Batatia et al., arXiv:2205.06643; MIT licence) has them from dynamics at 300 and
500 K: acetylacetone (PBE-D3/def2-SVP), 3BPA (ωB97X/6-31G*) and, beside ethanol, methanol
(PBE/def2-SVP). Writes a training and a test file of each, for the benchmark, with ``REF_energy``
in eV and ``REF_forces`` in eV/Å.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import read, write

OUT = Path(__file__).parent / "results" / "molecules"


@dataclass(frozen=True)
class Part:
    """Structures of a file of the collection: those with ``n_atoms``, each ``step``-th of them."""

    file: str
    n_atoms: int
    start: int = 0
    stop: int | None = None
    step: int = 1

    def frames(self, folder: Path) -> list[Atoms]:
        every = read(folder / self.file, ":")
        chosen = [atoms for atoms in every if len(atoms) == self.n_atoms]
        return [labelled(atoms) for atoms in chosen[self.start : self.stop : self.step]]


MOLECULES = {
    "acetylacetone_train": Part("dataset_acac/train_300K.xyz", 15),
    "acetylacetone_test": Part("dataset_acac/test_MD_300K.xyz", 15, step=10),
    "methanol_train": Part("dataset_ethanol/train_eth_meth.xyz", 6),
    "methanol_test": Part("dataset_ethanol/test_eth_meth.xyz", 6),
    "3bpa_train": Part("dataset_3BPA/train_300K.xyz", 27, stop=400),
    "3bpa_test": Part("dataset_3BPA/train_300K.xyz", 27, start=400, step=2),
}


def labelled(atoms: Atoms) -> Atoms:
    """The molecule in free space, with its labels under the project's names."""
    frame = Atoms(atoms.numbers, atoms.positions)
    frame.info["REF_energy"] = atoms.get_potential_energy()
    frame.arrays["REF_forces"] = atoms.get_forces()
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("collection", type=Path, help="folder of the clone")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, part in MOLECULES.items():
        frames = part.frames(options.collection)
        write(options.out / f"{name}.xyz", frames)
        print(f"{options.out / name}.xyz: {len(frames)} structures")


if __name__ == "__main__":
    main()
