"""Make the data of the recipe: composite coupled-cluster energies of one molecule.

Needs the extra ``data`` of mace-weak (``pip install ".[data]"``), and the folder of the quickstart
for its sampling. Run it as often as it takes; what is labelled stays in ``labels.jsonl``::

    python -m recipes.cbs_energy_only.make_data --out data/mine

Written are, in extended XYZ with MACE's default keys (eV, eV/Å):

``train.xyz``
    Geometries of GFN2-xTB dynamics with composite energies, and nothing else.
``test.xyz``
    Geometries of another trajectory with energies, and forces from their central differences.
``minimum.xyz``
    The minimum of the composite energy, with its harmonic wavenumbers (cm⁻¹).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.io import read, write

from recipes.cbs_energy_only.composite import LEVEL
from recipes.cbs_energy_only.differences import Modes, force_jobs, forces_of, frequencies
from recipes.cbs_energy_only.labels import Job, labelled
from recipes.cbs_energy_only.vibrations import force_hessian, relaxed
from recipes.quickstart.sampling import sample

METHOD = "GFN2-xTB"
NEWTON_STEPS = 5
CONVERGED = 1e-3  # Å


def claim(options: argparse.Namespace) -> None:
    """Say in the folder what it is of.

    Raises:
        SystemExit: if it is of something else.
    """
    of = {key: getattr(options, key) for key in ("molecule", "temperature", "seed")}
    content = {**of, "dynamics": METHOD, "labels": LEVEL}
    path = options.out / "settings.json"
    if path.exists() and (other := json.loads(path.read_text())) != content:
        raise SystemExit(f"{options.out} has data of {other}, not of {content}: give another --out")
    path.write_text(json.dumps(content))


def geometries(options: argparse.Namespace, kind: str, frames: int, seed: int) -> list[Atoms]:
    """Frames of a trajectory, those of an earlier call if there are as many."""
    path = options.out / f"geometries_{kind}.xyz"
    if path.exists() and len(found := read(path, ":")) == frames:
        return found
    made = sample(
        options.molecule,
        temperature=options.temperature,
        frames=frames,
        seed=options.seed + seed,
        stride=100,
        method=METHOD,
    )
    write(path, list(made), format="extxyz")
    return read(path, ":")


def energies_of(jobs: Sequence[Job], options: argparse.Namespace, what: str) -> dict[str, float]:
    """Composite energies (eV) by name, those of failed calculations absent."""
    results = labelled(jobs, options.out / "labels.jsonl", processes=options.processes, what=what)
    return {name: result.energy for name, result in results.items()}


def frame(atoms: Atoms, energy: float, forces: np.ndarray | None = None) -> Atoms:
    """A geometry with its labels and the level of theory."""
    labelled_frame = Atoms(atoms.numbers, atoms.positions)
    labelled_frame.info |= {"REF_energy": round(energy, 8), "level": LEVEL}
    if forces is not None:
        labelled_frame.arrays["REF_forces"] = np.round(forces, 5)
    return labelled_frame


def make_train(options: argparse.Namespace) -> None:
    atoms = geometries(options, "train", options.train, 1)
    jobs = [Job(f"train-{index}", each) for index, each in enumerate(atoms)]
    energies = energies_of(jobs, options, "train")
    frames = [frame(job.atoms, energies[job.name]) for job in jobs if job.name in energies]
    write(options.out / "train.xyz", frames, format="extxyz")


def make_test(options: argparse.Namespace) -> None:
    atoms = geometries(options, "test", options.test, 2)
    centres = [Job(f"test-{index}", each) for index, each in enumerate(atoms)]
    jobs = [*centres, *(job for each in centres for job in force_jobs(each.name, each.atoms))]
    energies = energies_of(jobs, options, "test")
    frames = []
    for job in centres:
        try:
            forces = forces_of(job.name, job.atoms, energies)
            frames.append(frame(job.atoms, energies[job.name], forces))
        except KeyError as missing:
            print(f"{job.name} has no energy of {missing}: left out")
    write(options.out / "test.xyz", frames, format="extxyz")


def make_minimum(options: argparse.Namespace) -> None:
    """Newton's method with the energies alone, from the minimum of xTB."""
    atoms = relaxed(molecule(options.molecule), xtb())
    for step in range(NEWTON_STEPS):
        atoms.calc = xtb()
        modes = Modes.of(atoms, force_hessian(atoms))
        name = f"minimum-{step}"
        energies = energies_of(modes.jobs(name), options, f"minimum, step {step}")
        gradient, hessian = modes.gradient_and_hessian(name, energies)
        atoms = modes.newton_step(gradient, hessian)
        length = float(np.abs(atoms.positions - modes.atoms.positions).max())
        if length < CONVERGED:
            break
    else:
        raise SystemExit(f"no minimum after {NEWTON_STEPS} steps: the last was of {length:.4f} Å")
    minimum = frame(modes.atoms, energies[name])
    minimum.info["wavenumbers"] = np.round(frequencies(hessian), 1)
    write(options.out / "minimum.xyz", minimum, format="extxyz")


def xtb() -> Calculator:
    from tblite.ase import TBLite

    return TBLite(method=METHOD, verbosity=0, accuracy=0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--molecule", default="NH3", help="a molecule of ASE's G2 collection")
    parser.add_argument("--train", type=int, default=150, help="geometries with energies")
    parser.add_argument("--test", type=int, default=16, help="geometries with forces")
    parser.add_argument("--temperature", type=float, default=1000.0, help="of the dynamics, K")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    claim(options)
    make_train(options)
    make_minimum(options)
    make_test(options)


if __name__ == "__main__":
    main()
