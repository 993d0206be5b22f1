"""Error bars of the models that learn from a tangent model, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mace_weak.errors import WeakLossError
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.gradients import Coordinates, Features, Model, force_rows
from mace_weak.tangent.prior import Sketch
from mace_weak.tangent.solution import Posterior
from mace_weak.tangent.storage import replacing

TRAINED, FIXED = "trained", "fixed"  # kinds of tensors in the file


@dataclass(frozen=True)
class Spread:
    """Standard deviations: of the total energy in eV, of the forces (n_atoms, 3) in eV/Å.

    The energy's is infinite where the labels do not determine that of such a composition. Forces
    are None where they were not asked for.
    """

    energy: float
    forces: np.ndarray | None


class NamedModel(Model, Protocol):
    """A model whose parameters have names."""

    @property
    def names(self) -> Sequence[str]:
        """Those of the parameters, in their order."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """All tensors of the model by name: parameters, and what it does not train."""


@dataclass(frozen=True)
class ErrorBars:
    """A posterior, and the foundation model that it belongs to.

    ``parameters`` are those of the foundation model that were trained, by name, and ``active``
    (n_parameters,) says which of them, one behind the other, have features. ``fixed`` are tensors
    that the foundation model does not train, and its successor does.
    """

    posterior: Posterior
    parameters: Mapping[str, np.ndarray]
    active: np.ndarray
    fixed: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, tangent: Tangent, foundation: NamedModel, successor: NamedModel) -> ErrorBars:
        """Those of a tangent model of ``foundation``, from which the ``successor`` learned.

        Raises:
            ValueError: if the tangent model was solved without them.
        """
        if tangent.posterior is None:
            raise ValueError("the tangent model was solved without error bars: ask fit for them")
        return cls(
            tangent.posterior,
            {name: _numbers(foundation.state[name]) for name in foundation.names},
            tangent.coordinates.active.cpu().numpy(),
            {
                name: _numbers(foundation.state[name])
                for name in successor.names
                if name not in foundation.names
            },
        )

    def save(self, path: Path, *, mark: str) -> None:
        """Write a file of NumPy's (.npz), which holds numbers and text alone.

        ``mark`` says which model it belongs to. Numbers are kept in single precision.
        """
        tensors: dict[str, Any] = {
            f"{kind}:{name}": value
            for kind, named in ((TRAINED, self.parameters), (FIXED, self.fixed))
            for name, value in named.items()
        }
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file, mark=mark, active=np.packbits(self.active), **self.posterior.content(),
                **tensors,
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path, *, mark: str) -> ErrorBars:
        """What ``save`` wrote.

        Raises:
            WeakLossError: if the file is of another model, or none of these.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                written = str(content["mark"])
                tensors = {
                    kind: {
                        name.removeprefix(f"{kind}:"): content[name]
                        for name in content
                        if name.startswith(f"{kind}:")
                    }
                    for kind in (TRAINED, FIXED)
                }
                count = sum(value.size for value in tensors[TRAINED].values())
                active = np.unpackbits(content["active"], count=count).astype(bool)
                posterior = Posterior.from_content(content)
        except (KeyError, ValueError, OSError) as error:
            raise WeakLossError(
                f"'{path}' cannot be read as error bars ({error}): remove it, or run mace-weak "
                "finetune again"
            ) from error
        if written != mark:
            raise WeakLossError(
                f"'{path}' has the error bars of another model: remove it, or run mace-weak "
                "finetune again"
            )
        return cls(posterior, tensors[TRAINED], active, tensors[FIXED])

    def on(self, model: NamedModel) -> ModelErrorBars:
        """Error bars on the structures of ``model``, whose parameters become the foundation's.

        Raises:
            WeakLossError: if it lacks one of them.
        """
        parameters = dict(zip(model.names, model.parameters, strict=True))
        values = {**self.parameters, **self.fixed}
        absent = [name for name in values if name not in parameters]
        if absent:
            raise WeakLossError(f"the error bars are of another model: it has no '{absent[0]}'")
        with torch.no_grad():
            for name, value in values.items():
                parameters[name].copy_(torch.from_numpy(value).view_as(parameters[name]))
        coordinates = Coordinates.of([parameters[name] for name in self.parameters])
        active = torch.from_numpy(self.active).to(coordinates.scale.device)
        scale = coordinates.scale[active]
        sketch = Sketch.of(scale, size=self.posterior.size, seed=self.posterior.seed)
        return ModelErrorBars(self.posterior, model, coordinates, active, sketch)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)


@dataclass(frozen=True)
class ModelErrorBars:
    """Error bars on the structures of a model with the foundation's parameters.

    Of the ``coordinates``, which are all, those that are ``active`` (n_parameters,) were learned,
    and have a ``sketch``; others, as of an element that no labelled structure has, are as open as
    the prior leaves them.
    """

    posterior: Posterior
    model: Model
    coordinates: Coordinates
    active: Tensor
    sketch: Sketch

    def on(self, model: Model) -> ModelErrorBars:
        """On other structures, which ``model`` has with the same parameters."""
        return replace(self, model=model)

    def spread(self, number: int, counts: Sequence[int], *, forces: bool = True) -> Spread:
        """Of the structure with this number, and ``counts`` (n_kinds,) atoms of each kind.

        The energy takes one gradient by the parameters, each component of the forces another.
        """
        surface = self.model.surface([number])
        row, unseen = self._split(Features(surface, self.coordinates).rest().energy)
        energy = self.posterior.energy_spreads(row, np.atleast_2d(counts), unseen=unseen)
        if not forces:
            return Spread(float(energy[0]), None)
        components = [
            self._split(component.unsqueeze(0))
            for component in force_rows(surface, self.coordinates)
        ]
        rows, squares = (np.concatenate(part) for part in zip(*components, strict=True))
        spreads = self.posterior.force_spreads(rows, unseen=squares)
        return Spread(float(energy[0]), spreads.reshape(-1, 3))

    def _split(self, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Sketched features (n_rows, size) that were learned, the squares (n_rows,) of others."""
        learned = self.sketch(rows[:, self.active])
        unseen = rows[:, ~self.active].square().sum(dim=1)
        return learned.cpu().numpy(), unseen.cpu().numpy()
