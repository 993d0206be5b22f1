"""Composite energies of many geometries: in parallel, resumable, one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from tqdm import tqdm

from recipes.cbs_energy_only.composite import Composite, ConvergenceError, composite

TOLERANCE = 1e-8  # Å, between the geometry of a job and that of its line


@dataclass(frozen=True)
class Job:
    """A geometry to be labelled, under a name that no other one has."""

    name: str
    atoms: Atoms


def labelled(
    jobs: Sequence[Job], lines: Path, *, processes: int, what: str
) -> dict[str, Composite]:
    """The composite energies of ``jobs`` by their names; those that fail are reported and absent.

    Lines of earlier calls are taken if their geometries are the same. A failure leaves no line, so
    that another call tries again.
    """
    results = known(jobs, lines)
    missing = [job for job in jobs if job.name not in results]
    with ProcessPoolExecutor(processes) as pool, lines.open("a") as file:
        futures = {pool.submit(composite, bare(job.atoms)): job for job in missing}
        for future in tqdm(as_completed(futures), total=len(futures), desc=what, unit="geometry"):
            job = futures[future]
            try:
                results[job.name] = future.result()
            except ConvergenceError as error:
                tqdm.write(f"{job.name}: {error}; left out")
                continue
            file.write(line(job, results[job.name]) + "\n")
            file.flush()
    return results


def bare(atoms: Atoms) -> Atoms:
    """Without a calculator, which need not be fit for another process."""
    return Atoms(atoms.numbers, atoms.positions)


def line(job: Job, result: Composite) -> str:
    return json.dumps(
        {
            "name": job.name,
            "symbols": job.atoms.get_chemical_symbols(),
            "positions": job.atoms.positions.tolist(),
            **result.as_dict(),
        }
    )


def known(jobs: Sequence[Job], lines: Path) -> dict[str, Composite]:
    """Results of earlier calls for the same names and geometries."""
    if not lines.exists():
        return {}
    expected = {job.name: job.atoms for job in jobs}
    results = {}
    for text in lines.read_text().splitlines():
        entry = json.loads(text)
        name, symbols = entry.pop("name"), entry.pop("symbols")
        positions = np.array(entry.pop("positions"))
        if name not in expected or expected[name].get_chemical_symbols() != symbols:
            continue
        if np.allclose(expected[name].positions, positions, rtol=0, atol=TOLERANCE):
            results[name] = Composite(**entry)
    return results
