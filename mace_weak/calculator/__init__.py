"""Error bars in ASE: a calculator for models of ``mace-weak finetune``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mace_weak.command.error_bars import Estimator, require_error_bars
from mace_weak.command.models import load_model, require_elements
from mace_weak.structures import bare, plain_state_of

ENERGY, FORCES = "energy_uncertainty", "forces_uncertainty"


class ErrorBarCalculator(Calculator):
    """The host's calculator of a model file, which knows its error bars too.

    ``get_property("energy_uncertainty", atoms)`` is a standard deviation in eV, infinite for a
    composition that the labels do not determine; ``"forces_uncertainty"`` are those of the
    components (n_atoms, 3) in eV/Å. They are computed when asked for, the forces' at the cost of
    some 5 n_atoms evaluations of forces: in dynamics, ask once in a while. All other properties are
    those of the host.

    Raises:
        WeakLossError: if there are no error bars beside the model file, or they are of another, or
            a structure has an element that the model does not know.
    """

    def __init__(self, model: str, *, device: str = "cpu") -> None:
        super().__init__()
        bars, saved = require_error_bars(str(model)), load_model(str(model), device=device)
        self.estimator = Estimator(str(model), saved, bars)
        self.saved, self.host = saved, saved.calculator
        self.implemented_properties = [*self.host.implemented_properties, ENERGY, FORCES]

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last call, charge and spin among it."""
        changes = list(super().check_state(atoms, tol=tol))
        if self.atoms is not None and plain_state_of(self.atoms) != plain_state_of(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        require_elements(self.saved, self.atoms)
        wanted = set(properties)
        if wanted & {ENERGY, FORCES}:
            self.results |= self._uncertainties(forces=FORCES in wanted)
        others = sorted(wanted - {ENERGY, FORCES})
        if others:
            self.host.calculate(bare(self.atoms), others, system_changes)
            self.results |= self.host.results

    def _uncertainties(self, *, forces: bool) -> dict[str, Any]:
        (spread,) = self.estimator.spreads([bare(self.atoms)], forces=forces)
        found: dict[str, Any] = {ENERGY: spread.energy}
        return found | ({FORCES: spread.forces} if spread.forces is not None else {})
