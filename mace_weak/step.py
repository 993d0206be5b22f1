"""One step of a training: from a model, its anchor and its labels on a batch to the weak penalties.

Both hosts run the same flow. A ``WeakStep`` says what is to be done, ``residuals_of`` evaluates the
terms on the structures of a ``Subset`` of the batch, and ``penalties_of`` turns the residuals into
what each structure adds to the loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mace_weak.displacements import (
    ADVERSARIAL,
    GAUSSIAN,
    adversarial_displacement,
    structure_displacements,
)
from mace_weak.errors import NonFiniteWeakLossError
from mace_weak.losses import FORCES, TERMS
from mace_weak.options import REFERENCE_LABELS, WeakOptions
from mace_weak.potentials import Difference, Potential, Reference, Referenced
from mace_weak.residuals import weak_residuals

Penalty = Callable[[Tensor], Tensor]  # ℓ(x) of a per-atom residual x in eV, elementwise


@dataclass(frozen=True, kw_only=True)
class WeakStep:
    """What the weak terms do in one step of a run.

    ``weights`` are those of the terms, relative to the energy term, and ``order`` that of the
    expansions. ``rows`` of the batch take the terms; they are the ``structures``, by their number
    in the training set. The displacements depend on ``seeds`` and on that number.
    """

    epoch: int
    number: int
    weights: Mapping[str, float]
    order: int
    rows: Sequence[int]
    structures: Sequence[int]
    seeds: Sequence[int]
    options: WeakOptions

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(self.weights)

    @property
    def replicas(self) -> int:
        """How many displacements each structure needs."""
        return max(TERMS[term].replicas for term in self.terms if term in TERMS)


@dataclass(frozen=True)
class Subset:
    """Some structures of a batch: their rows, their numbers of atoms, and how to select tensors.

    The batch has ``n_structures``. ``structures`` and ``atoms`` index its tensors; None means all,
    in order.
    """

    rows: Sequence[int]
    sizes: Sequence[int]
    n_structures: int
    structures: Tensor | None = None
    atoms: Tensor | None = None

    @classmethod
    def of(cls, rows: Sequence[int], sizes: Sequence[int], device: torch.device) -> Subset:
        """``rows`` of a batch whose structures have ``sizes`` atoms."""
        chosen = [sizes[row] for row in rows]
        if len(rows) == len(sizes):
            return cls(rows, chosen, len(sizes))
        ends = [0]
        for size in sizes:
            ends.append(ends[-1] + size)
        return cls(
            rows, chosen, len(sizes),
            structures=torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True),
            atoms=indices(ends, rows, device),
        )  # fmt: skip

    def per_structure(self, values: Tensor) -> Tensor:
        return values if self.structures is None else values[self.structures]

    def per_atom(self, values: Tensor) -> Tensor:
        return values if self.atoms is None else values[self.atoms]

    def scattered(self, values: Tensor) -> Tensor:
        """``values`` of the selected structures among zeros for all of the batch."""
        if self.structures is None:
            return values
        return values.new_zeros(self.n_structures).index_copy(0, self.structures, values)


def indices(ends: Sequence[int], rows: Sequence[int], device: torch.device) -> Tensor:
    """Indices of the entries of ``rows``, where row i has those from ``ends[i]`` to the next."""
    ranges = [torch.arange(ends[row], ends[row + 1]) for row in rows]
    return torch.cat(ranges or [torch.empty(0, dtype=torch.int64)]).to(device, non_blocking=True)


def residuals_of(
    step: WeakStep, subset: Subset, model: Potential, anchor: Potential | None, reference: Reference
) -> dict[str, Tensor]:
    """Residuals (n_selected,) of each term of the ``step``, in eV; of ``forces`` in (eV/Å)².

    The ``model``, the ``anchor`` and the ``reference`` labels are those of the ``subset``.

    Raises:
        ValueError: if the directions are adversarial and a potential gives no forces.
    """
    options = step.options
    adversarial = options.direction == ADVERSARIAL
    displacements = structure_displacements(
        step.structures,
        subset.sizes,
        n_replicas=step.replicas,
        seeds=step.seeds,
        length=options.displacement,
        direction=GAUSSIAN if adversarial else options.direction,
        atom_fraction=options.atom_fraction,
    ).to(reference.forces, non_blocking=True)
    if adversarial:
        displacements[0] = adversarial_displacement(
            _force_error(model, Referenced(anchor or model, reference)),
            model.structure,
            n_structures=len(subset.rows),
            length=options.displacement,
            otherwise=displacements[0],
        )
    potential: Potential = model
    if options.labels == REFERENCE_LABELS:
        potential = Referenced(model, reference)
    if anchor is not None:
        potential = Difference(potential, anchor)
    return weak_residuals(potential, displacements, step.terms, order=step.order)


def penalties_of(
    step: WeakStep,
    subset: Subset,
    residuals: Mapping[str, Tensor],
    *,
    penalty: Penalty,
    n_atoms: Tensor,
    scale: Tensor | float,
    per_atom: bool = True,
) -> dict[str, Tensor]:
    """w_t · scale · ℓ of each term for all structures of the batch (n_structures,); others zero.

    ``n_atoms`` (n_structures,) are those of the batch, ``scale`` (n_selected,) or a number is what
    the penalties are multiplied by beside the weights. Unless ``per_atom``, ℓ is of the residual of
    the whole structure. The fraction of the structures that is drawn is made up for.
    """
    n_selected = subset.per_structure(n_atoms)
    found = {}
    for term, residual in residuals.items():
        if term == FORCES:  # squared already
            penalised = residual
        else:
            size = per_size(residual, n_selected, step.order)
            penalised = penalty(size if per_atom else n_selected * size)
        factor = step.weights[term] / step.options.fraction
        found[term] = subset.scattered(factor * scale * penalised)
    return found


def per_size(residual: Tensor, n_atoms: Tensor, order: int) -> Tensor:
    """Residuals (n_structures,) in eV that compare between structures of any size.

    A residual of order 1 adds up over the atoms, as energies do: r/N. One of order 0 is the work of
    random displacements, whose sum grows with √N only: r/√N.
    """
    size = n_atoms.to(residual)
    return residual / (size if order else size.sqrt())


def squared(residual: Tensor) -> Tensor:
    """ℓ(x) = x²."""
    return residual.square()


def absolute(residual: Tensor) -> Tensor:
    """ℓ(x) = |x|."""
    return residual.abs()


def huber(delta: float) -> Penalty:
    """ℓ(x) = x²/2 up to ``delta`` (eV), δ(|x| − δ/2) beyond."""

    def penalty(residual: Tensor) -> Tensor:
        return torch.nn.functional.huber_loss(
            residual, torch.zeros_like(residual), reduction="none", delta=delta
        )

    return penalty


def require_finite(
    step: WeakStep, parts: Mapping[str, float], residuals: Mapping[str, Tensor], *, counted: str
) -> None:
    """Check the weak ``parts`` of a step's loss.

    ``residuals`` (n_selected,) in eV are those of the step's structures; ``counted`` says how the
    structures of the training set are numbered.

    Raises:
        NonFiniteWeakLossError: if a part is infinite or not a number.
    """
    for name, value in parts.items():
        if math.isfinite(value):
            continue
        finite = torch.isfinite(residuals[name]).tolist()
        bad = [number for number, well in zip(step.structures, finite, strict=True) if not well]
        where = f"structure {bad[0]}" if bad else "no single structure"
        raise NonFiniteWeakLossError(
            f"the {name} term is {value} at epoch {step.epoch}, step {step.number}, from {where} "
            f"of the training set ({counted}): lower the learning rate or weak_displacement. The "
            "checkpoints are intact."
        )


def require_finite_supervised(value: float, epoch: int, number: int, name: str = "") -> None:
    """Check the supervised part of a step's loss, or the one with a ``name``.

    One step with such a loss would spoil the parameters.

    Raises:
        NonFiniteWeakLossError: if it is infinite or not a number.
    """
    if not math.isfinite(value):
        named = name and f" ({name})"
        raise NonFiniteWeakLossError(
            f"the supervised loss is {value}{named} at epoch {epoch}, step {number}: lower the "
            "learning rate. The checkpoints are intact."
        )


def _force_error(model: Potential, reference: Potential) -> Tensor:
    """F − F_ref (n_atoms, 3) in eV/Å, a constant."""
    forces, expected = model.rest().forces, reference.rest().forces
    if forces is None or expected is None:
        raise ValueError("adversarial displacements need the forces")
    return (forces - expected).detach()


class Stopwatch:
    """Adds up the intervals between ``start`` and ``stop``, in seconds.

    On CUDA the marks are events on the stream, read only when ``seconds`` is asked for, so timing
    never makes the host wait in the middle of a step.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._begun: Any = None
        self._intervals: list[tuple[Any, Any]] = []

    def start(self, *_: object) -> None:
        self._begun = self._mark()

    def stop(self, *_: object) -> None:
        if self._begun is not None:
            self._intervals.append((self._begun, self._mark()))
            self._begun = None

    def time_backward_from(self, last: Tensor) -> None:
        """Time the backward pass from ``last``, which was computed last."""
        if last.requires_grad:
            last.register_hook(self.start)

    def time_backward_to(self, first: Tensor) -> None:
        """Time the backward pass to ``first``, a leaf."""
        first.register_hook(self.stop)

    def seconds(self) -> float:
        """The time so far; the watch starts again from zero."""
        intervals, self._intervals = self._intervals, []
        if not self._cuda:
            return sum(end - begin for begin, end in intervals)
        if intervals:
            intervals[-1][1].synchronize()
        return 1e-3 * sum(begin.elapsed_time(end) for begin, end in intervals)

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
