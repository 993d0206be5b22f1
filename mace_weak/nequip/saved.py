"""Saved nequip models, as the command ``mace-weak`` uses them.

Loading a model file executes code stored in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from nequip.data import AtomicDataDict
from nequip.integrations.ase import NequIPCalculator
from nequip.nn.graph_model import R_MAX_KEY, TYPE_NAMES_KEY

from mace_weak.errors import WeakLossError
from mace_weak.nequip.anchor import gives_forces
from mace_weak.structures import Prediction, batch_atoms, in_batches
from mace_weak.versions import NEQUIP_NET

AOT_SUFFIX = ".pt2"
COMPILED_SUFFIXES = (".pth", AOT_SUFFIX)
SHIFTS = "per_type_energy_scale_shift"  # nequip's name of the module with the atomic energies


@dataclass(frozen=True)
class SavedModel:
    """A nequip model within nequip's calculator; the types of its atoms are the elements."""

    calculator: NequIPCalculator
    elements: Sequence[str]
    cutoff: float
    most_structures: int | None = None  # in a batch

    @property
    def dtype(self) -> str:
        """``float32`` or ``float64``."""
        return str(next(self.calculator.model.parameters()).dtype).removeprefix("torch.")

    @property
    def shifting(self) -> Any | None:
        """The module that adds the energies of the atoms, if there is one; not when compiled."""
        for name, module in self.calculator.model.named_modules():
            if name.rpartition(".")[2] == SHIFTS and getattr(module, "has_shifts", False):
                return module
        return None

    @property
    def rounds_totals(self) -> bool:
        return False  # they are summed in float64

    @property
    def atomic_energies(self) -> Mapping[str, float] | None:
        """Energies of the atoms in the model, eV; None in a compiled model."""
        if self.shifting is None:
            return None
        shifts = self.shifting.shifts.detach().flatten().expand(len(self.elements))
        return dict(zip(self.elements, shifts.tolist(), strict=True))

    @property
    def training_flags(self) -> Sequence[str]:
        return ()

    @property
    def reads(self) -> Collection[str]:
        return ()

    @property
    def stress_is_whole(self) -> bool:
        return True

    def predictions(self, frames: Iterable[Atoms]) -> Iterator[Prediction]:
        """Energies, forces and stresses of structures without labels, in batches."""
        most_atoms = batch_atoms(self.calculator.device)
        for batch in in_batches(frames, most_atoms=most_atoms, most_items=self.most_structures):
            yield from self._predicted(batch)

    def _predicted(self, frames: Sequence[Atoms]) -> Iterator[Prediction]:
        graphs = [self.calculator.atoms_to_data(atoms) for atoms in frames]
        output = self.calculator.call_model(AtomicDataDict.batched_from_list(graphs))
        if AtomicDataDict.FORCE_KEY not in output:
            raise WeakLossError("the model predicts energies only: use the same model with forces")
        energies = output[AtomicDataDict.TOTAL_ENERGY_KEY].flatten().tolist()
        forces = output[AtomicDataDict.FORCE_KEY].detach().split([len(atoms) for atoms in frames])
        stresses = output.get(AtomicDataDict.STRESS_KEY)
        for place, atoms in enumerate(frames):
            stress = None
            if all(atoms.pbc) and stresses is not None:
                stress = full_3x3_to_voigt_6_stress(stresses[place].detach().cpu().numpy())
            yield Prediction(energies[place], forces[place].cpu().numpy(), stress)


def load_saved(path: str, *, device: str) -> SavedModel:
    """The model in a package, a checkpoint or a compiled file of nequip, or from nequip.net.

    Raises:
        WeakLossError: if there is no such file, or the model gives no forces.
    """
    if not (path.startswith(NEQUIP_NET) or Path(path).is_file()):
        raise WeakLossError(f"there is no model file '{path}'")
    compiled = path.endswith(COMPILED_SUFFIXES)
    load = NequIPCalculator.from_compiled_model if compiled else NequIPCalculator._from_saved_model
    calculator = load(path, device=device, chemical_species_to_atom_type_map=True)
    if not compiled and not gives_forces(calculator.model):
        raise WeakLossError(
            f"'{path}' gives energies only, as it was made with do_derivatives: false: take the "
            "same model with forces"
        )
    metadata = getattr(calculator.model, "metadata", None) or calculator.metadata
    return SavedModel(
        calculator,
        elements=str(metadata[TYPE_NAMES_KEY]).split(" "),
        cutoff=float(metadata[R_MAX_KEY]),
        # nequip-compile fixes the number of structures of an AOTInductor model for ASE to one
        most_structures=1 if path.endswith(AOT_SUFFIX) else None,
    )
