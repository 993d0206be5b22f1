"""Labels that a training would read as something else: what is wrong, and how to correct it.

For trainings, which stop, and for ``mace-weak check``, which shows all there is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mace_weak.compositions import fit_atoms

ASE_KEYS = ("energy", "forces", "stress")
ASE_LABELS = ("energy", "energies", "free_energy", "forces", "stress")  # kept by its calculators
MOST_BINDING = 12.0  # eV for an atom: no material is bound so firmly
DIFFERENT = 0.01  # Å, by which a distance differs in structures that are not copies
SAME = 1e-6  # eV, by which energies do not differ
COARSE = 0.1  # share of what energies differ by that rounding may take
FEWEST = 3  # energies beyond those of the atoms, to see what they differ by


@dataclass(frozen=True)
class Problem:
    """What is wrong with the labels, and how to correct it."""

    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}: {self.mend}"


def unplaced(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> Problem | None:
    """No atoms, positions or cell vectors that are no finite numbers, or a cell that is missing."""
    if not len(positions):
        return Problem("it has no atoms", "remove it")
    for name, values in (("position", positions), ("cell vector", cell)):
        if not np.all(np.isfinite(values)):
            return Problem(f"a {name} is NaN or infinite", "correct or remove the structure")
    if np.linalg.matrix_rank(cell[pbc]) < np.count_nonzero(pbc):
        return Problem(
            "it is periodic and has no cell vectors to repeat along",
            "write its cell, or pbc as F F F for a molecule",
        )
    return None


def unread_by_mace(label: str, key: str) -> Problem:
    """A label that ASE keeps with its calculator, where MACE reads its three own names only."""
    return Problem(
        f"its {label} is called '{key}', which ASE keeps with its calculator, where MACE does not "
        "look",
        f"write it under another name, REF_{label}",
    )


def held_atoms(key: str | None) -> Problem | None:
    """Forces of a structure with constraints, under the name for which MACE asks ASE."""
    if key != "forces":
        return None
    return Problem(
        "it has constraints (move_mask), and under ASE's own name 'forces' MACE reads zero forces "
        "of the atoms that are held",
        "write the forces under another name, REF_forces, and name that by --forces_key "
        "(--forces-key of mace-weak), or remove the constraints",
    )


def filled_with_zeros(label: str, key: str, missing: int) -> Problem | None:
    """Labels under ASE's own names, which MACE 0.3.16 takes for zero where they are missing."""
    if key not in ASE_KEYS or not missing:
        return None
    return Problem(
        f"{missing} structures have no {label} under ASE's own name '{key}', where MACE takes what "
        "is missing for zero and trains on it",
        f"write the labels under another name, REF_{label}, and name that by --{label}_key "
        f"(--{label}-key of mace-weak)",
    )


def no_forces(forces: Sequence[np.ndarray]) -> Problem | None:
    """Forces (n_atoms, 3) of several structures that are all zero: by symmetry, or unknown."""
    if len(forces) < 2 or any(one.any() for one in forces):
        return None
    return Problem(
        "the forces of all structures are zero",
        "remove them if they were not calculated",
    )


def same_forces(forces: Sequence[np.ndarray]) -> Problem | None:
    """Forces (n_atoms, 3), not zero, that several structures have in common."""
    if len(forces) < 2 or not forces[0].any():
        return None
    if any(not np.array_equal(one, forces[0]) for one in forces[1:]):
        return None
    return Problem(
        "all structures have the same forces", "write those of each structure, or remove them"
    )


def same_energies(energies: np.ndarray, fingerprints: np.ndarray) -> Problem | None:
    """Energies (n_structures,) in eV of one composition, equal for structures that are not.

    ``fingerprints`` (n_structures, n_distances) in Å are the structures'.
    """
    known = np.isfinite(energies)
    if known.sum() < FEWEST or np.ptp(energies[known]) > 0:
        return None
    if np.max(np.ptp(fingerprints[known], axis=0), initial=0.0) < DIFFERENT:
        return None
    return Problem(
        f"{known.sum()} different structures have the same energy, {energies[known][0]:g} eV",
        "write the energy of each structure, or remove it",
    )


def isolated_atoms(
    energies: Mapping[str, float | None], elements: Collection[str], *, energy_key: str
) -> Iterator[Problem]:
    """Isolated atoms, which MACE takes the energies of the atoms from, whatever ``E0s`` says.

    ``energies`` (eV) are by element, None where there is none; ``elements`` those of the
    structures.
    """
    if not energies:
        return
    if energy_key in ASE_KEYS:
        yield Problem(
            f"the energies of isolated atoms stand under ASE's own name '{energy_key}', where MACE "
            "takes them for 0 eV",
            "write energies under another name, REF_energy, and name that by --energy_key",
        )
    unknown = sorted(symbol for symbol, energy in energies.items() if energy is None)
    if unknown:
        yield Problem(
            f"isolated atoms of {', '.join(unknown)} have no energy, and MACE takes 0 eV",
            "label or remove them",
        )
    absent = sorted(set(elements) - set(energies))
    if absent:
        yield Problem(
            f"there are isolated atoms of {', '.join(sorted(energies))}, but not of "
            f"{', '.join(absent)}, and MACE wants either all or none",
            "add those that are missing, or remove all isolated atoms",
        )


def foreign_atoms(
    energies: Mapping[str, float | None],
    counts: Mapping[str, np.ndarray],
    totals: np.ndarray,
) -> Problem | None:
    """Isolated atoms of another method than the structures.

    ``counts`` (n_structures,) are the numbers of atoms by element, ``totals`` (n_structures,) the
    energies of the structures, eV.
    """
    known = {symbol: energy for symbol, energy in energies.items() if energy is not None}
    if not len(totals) or not set(counts) <= set(known):
        return None
    sizes = sum(counts.values())
    apart = sum(counts[symbol] * known[symbol] for symbol in counts)
    binding = float(np.median((totals - apart) / sizes))
    if abs(binding) < MOST_BINDING:
        return None
    return Problem(
        f"the structures are bound by {-binding:.0f} eV for each atom beyond the isolated atoms, "
        "which are of another method than the structures",
        "calculate both in the same way (the same pseudopotentials, the same code), or remove the "
        "isolated atoms",
    )


def float32_steps(energies: np.ndarray) -> np.ndarray:
    """What single precision rounds energies (n_structures,) to, eV."""
    return np.spacing(np.abs(energies).astype(np.float32))


def coarse_energies(counts: np.ndarray, energies: np.ndarray, *, dtype: str) -> Problem | None:
    """Total energies (n_structures,) in eV that lose their differences to rounding in a training.

    ``counts`` (n_structures, n_elements) are the structures' numbers of atoms.
    """
    if dtype != "float32" or len(energies) - np.linalg.matrix_rank(counts) < FEWEST:
        return None
    step = float(np.max(float32_steps(energies)))
    left = fit_atoms(counts.astype(float), energies).residuals * counts.sum(axis=1)
    spread = float(np.std(left))
    if step < COARSE * spread or spread < SAME:
        return None
    return Problem(
        f"energies of {np.max(np.abs(energies)):.3g} eV are rounded to {step:.2g} eV in float32, "
        f"and beyond the atoms' own they differ by {spread:.2g} eV",
        "train in float64 (--default_dtype=float64; NequIP keeps total energies in float64), or "
        "take the energies of the atoms off the labels",
    )


def misread_by_mace(
    missing: Mapping[str, int],
    keys: Mapping[str, str],
    isolated: Mapping[str, float | None],
    *,
    elements: Sequence[str],
    counts: np.ndarray,
    totals: np.ndarray,
    dtype: str,
) -> Iterator[Problem]:
    """What MACE's reader makes of a file, and of its energies in the precision ``dtype``.

    ``missing`` counts the structures without each label, ``keys`` are the labels' names. ``counts``
    (n_labelled, n_elements) are the numbers of atoms of the structures with an energy, ``totals``
    (n_labelled,) these energies, eV.
    """
    found: list[Problem | None] = [
        *(filled_with_zeros(label, keys[label], count) for label, count in missing.items()),
        *isolated_atoms(isolated, elements, energy_key=keys["energy"]),
    ]
    if len(totals):
        columns = dict(zip(elements, counts.T, strict=True))
        found.append(foreign_atoms(isolated, columns, totals))
        found.append(coarse_energies(counts, totals, dtype=dtype))
    yield from (problem for problem in found if problem is not None)
