"""Energies, forces and harmonic frequencies of models, before and after fine-tuning.

Models are given as NAME=MODEL, a file or MACE's name of a foundation model::

    python -m recipes.cbs_energy_only.compare \\
        foundation=small fine-tuned=results/cbs/cbs.model --out results/cbs

Prints two tables and draws a picture of the forces.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase.io import read

from mace_weak.command.model_errors import Errors, errors_of, with_labels
from mace_weak.command.models import load_model, predict
from mace_weak.structures import Keys
from recipes.cbs_energy_only.vibrations import harmonic_wavenumbers
from recipes.quickstart.evaluate import draw_parity, errors_table
from recipes.quickstart.tables import markdown_table, with_table

HERE = Path(__file__).parent
DATA = HERE / "data"


def wavenumber_table(reference: np.ndarray, found: Mapping[str, np.ndarray]) -> str:
    """A row for each model, after that of the reference."""
    rows = [["reference", *(f"{value:.0f}" for value in reference), ""]]
    for name, values in found.items():
        mean = float(np.mean(np.abs(values - reference)))
        rows.append([name, *(f"{value:.0f}" for value in values), f"{mean:.0f}"])
    modes = [f"ω{number}" for number in range(1, len(reference) + 1)]
    return markdown_table(["model", *modes, "mean error"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--test", type=Path, default=DATA / "test.xyz")
    parser.add_argument("--minimum", type=Path, default=DATA / "minimum.xyz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the picture")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--readme", action="store_true", help="tables and picture into the README")
    options = parser.parse_args()
    named = dict(given.partition("=")[::2] for given in options.models)
    frames = read(options.test, ":")
    minimum = read(options.minimum)
    found: dict[str, Errors] = {}
    wavenumbers: dict[str, np.ndarray] = {}
    for name, model in named.items():
        # in float64, which vibrations need
        loaded = load_model(model, device=options.device, dtype="float64")
        found[name] = errors_of(with_labels(frames, predict(loaded, frames), Keys()))
        wavenumbers[name] = harmonic_wavenumbers(minimum, loaded.calculator)
    tables = {
        "errors": errors_table(found),
        "wavenumbers": wavenumber_table(np.array(minimum.info["wavenumbers"]), wavenumbers),
    }
    print(f"Unseen structures:\n\n{tables['errors']}\n\nHarmonic wavenumbers, cm⁻¹:\n")
    print(tables["wavenumbers"])
    options.out.mkdir(parents=True, exist_ok=True)
    draw_parity(found, options.out / "forces.png")
    print(f"\nPicture: {options.out / 'forces.png'}")
    if options.readme:
        readme = HERE / "README.md"
        for marker, table in tables.items():
            readme.write_text(with_table(readme.read_text(), marker, table))
        draw_parity(found, HERE / "forces.png")


if __name__ == "__main__":
    main()
