"""Saved MACE models, as the command ``mace-weak`` uses them.

Loading a model file executes the code pickled in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from mace.calculators import MACECalculator, mace_mp, mace_off, mace_omol
from mace.calculators.foundations_models import mace_mp_urls, mace_polar, polar_model_names
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.modules.utils import extract_invariant
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric.batch import Batch

from mace_weak.errors import WeakLossError
from mace_weak.mace.graphs import Graph, whole_graph
from mace_weak.mace.kinds import (
    LONG_RANGE,
    MACE_OMOL,
    POLAR,
    extra_inputs,
    kind_flag,
    kind_of,
    require_library,
)
from mace_weak.structures import STATE, Prediction, bare, batch_atoms, in_batches

MACE_OFF = {f"{size}_off": size for size in ("small", "medium", "large")}
STATE_KEYS = KeySpecification(info_keys={name: name for name in STATE})


@dataclass(frozen=True)
class SavedModel:
    """A MACE model within MACE's calculator."""

    calculator: MACECalculator

    @property
    def model(self) -> Any:
        return self.calculator.models[0]

    @property
    def elements(self) -> Sequence[str]:
        return [chemical_symbols[number] for number in self.calculator.z_table.zs]

    @property
    def cutoff(self) -> float:
        return float(self.calculator.r_max)

    @property
    def dtype(self) -> str:
        """``float32`` or ``float64``."""
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def rounds_totals(self) -> bool:
        return self.dtype == "float32"

    @property
    def atomic_energies(self) -> Mapping[str, float]:
        """Energies of the atoms in the head that the calculator predicts with, eV."""
        energies = torch.atleast_2d(self.model.atomic_energies_fn.atomic_energies)
        head = self.calculator.available_heads.index(self.calculator.head)
        return dict(zip(self.elements, energies[head].tolist(), strict=True))

    @property
    def training_flags(self) -> Sequence[str]:
        return kind_flag(self.model)

    @property
    def reads(self) -> Collection[str]:
        return STATE.keys() & set(extra_inputs(self.model))

    @property
    def stress_is_whole(self) -> bool:
        return kind_of(self.model) not in LONG_RANGE

    def predictions(self, frames: Iterable[Atoms]) -> Iterator[Prediction]:
        """Energies, forces and stresses of structures without labels, in batches."""
        for batch in in_batches(frames, most_atoms=batch_atoms(self.calculator.device)):
            yield from self._predicted(batch)

    def _predicted(self, frames: Sequence[Atoms]) -> Iterator[Prediction]:
        periodic = [all(atoms.pbc) for atoms in frames]
        output = self.model(self._graph(frames), compute_stress=any(periodic))
        if output.get("forces") is None:
            raise WeakLossError("the model predicts energies only: use the same model with forces")
        energies = output["energy"].tolist()
        forces = output["forces"].detach().split([len(atoms) for atoms in frames])
        stresses = output.get("stress")
        for place, is_periodic in enumerate(periodic):
            stress = None
            if is_periodic and stresses is not None:
                stress = full_3x3_to_voigt_6_stress(stresses[place].detach().cpu().numpy())
            yield Prediction(energies[place], forces[place].cpu().numpy(), stress)

    def atom_descriptors(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Invariant features of all layers, of the atoms of all frames: (n_atoms, n_features)."""
        with torch.no_grad():
            output = self.model(self._graph(frames), compute_force=False)
        return self._invariant(output["node_feats"]).cpu().numpy()

    def _graph(self, frames: Sequence[Atoms]) -> Graph:
        graphs = graphs_of(self, frames, dtype=next(self.model.parameters()).dtype)
        batch = Batch.from_data_list(graphs).to(self.calculator.device)
        return whole_graph(batch, extra_inputs(self.model))

    def _invariant(self, features: torch.Tensor) -> torch.Tensor:
        irreps = self.model.products[0].linear.irreps_out
        channels = irreps.dim // (irreps.lmax + 1) ** 2
        layers = int(self.model.num_interactions)
        return extract_invariant(
            features, num_layers=layers, num_features=channels, l_max=irreps.lmax
        )


def graphs_of(
    saved: SavedModel, frames: Sequence[Atoms], *, dtype: torch.dtype = torch.float64
) -> list[AtomicData]:
    """Structures as MACE's models read them: charge and spin too, and no labels."""
    calculator = saved.calculator
    table = AtomicNumberTable([int(number) for number in calculator.z_table.zs])
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return [
            AtomicData.from_config(
                config_from_atoms(bare(atoms), STATE_KEYS, head_name=calculator.head),
                z_table=table,
                cutoff=saved.cutoff,
                heads=calculator.available_heads,
            )
            for atoms in frames
        ]
    finally:
        torch.set_default_dtype(previous)


def several_heads(path: str, heads: Sequence[str]) -> WeakLossError:
    """What to say where only one head can be used."""
    return WeakLossError(
        f"'{path}' has the heads {', '.join(heads)}: take one out by mace_select_head"
    )


def load_saved(path: str, *, device: str, dtype: str) -> SavedModel:
    """The model in a file, or the foundation model that ``mace_run_train`` has by that name.

    ``dtype`` is ``float32`` or ``float64``; empty: as saved, and ``float32`` for one by name.

    Raises:
        WeakLossError: if there is neither, or the model has several heads and none called default.
    """
    is_file = Path(path).is_file()
    model = raw_model(path, device=device)
    heads = getattr(model, "heads", None) or ["default"]
    if len(heads) > 1 and "default" not in [head.lower() for head in heads]:
        raise several_heads(path, heads)
    dtype = dtype or ("" if is_file else "float32")
    kind = POLAR if kind_of(model) == POLAR else "MACE"
    return SavedModel(
        MACECalculator(
            models=model, device=device, default_dtype=dtype, model_type=kind,
            info_keys=dict(STATE_KEYS.info_keys),
        )
    )  # fmt: skip


def raw_model(path: str, *, device: str) -> torch.nn.Module:
    """The model in a file, or the foundation model that ``mace_run_train`` has by that name.

    Raises:
        WeakLossError: if there is neither, or a library that the model needs is missing.
    """
    if Path(path).is_file():
        model = torch.load(path, map_location=device, weights_only=False)
    else:
        model = foundation_model(path, device=device)
    require_library(kind_of(model))
    return model


def foundation_model(name: str, *, device: str) -> torch.nn.Module:
    """The foundation model that ``mace_run_train --foundation_model`` has by that name.

    MACE downloads it where it is not kept yet.

    Raises:
        WeakLossError: if there is none.
    """
    if name in mace_mp_urls:
        return mace_mp(model=name, device=device, return_raw_model=True)
    if name in MACE_OFF:
        return mace_off(model=MACE_OFF[name], device=device, return_raw_model=True)
    if name == MACE_OMOL:
        return mace_omol(device=device, return_raw_model=True)
    if name in polar_model_names:
        return mace_polar(name, device=device, return_raw_model=True)  # type: ignore[return-value]
    raise WeakLossError(
        f"there is no model file '{name}'; by name MACE has "
        f"{', '.join([*mace_mp_urls, *MACE_OFF, MACE_OMOL, *polar_model_names])}"
    )
