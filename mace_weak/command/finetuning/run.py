"""A fine-tuning in closed form, from the files to the model and the account of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_weak.command.checking.checks import checked
from mace_weak.command.checking.survey import survey
from mace_weak.command.finetuning.account import (
    chosen_table,
    expected_table,
    seconds_table,
    undecided,
)
from mace_weak.command.finetuning.structures import Structures, labelled_structures
from mace_weak.command.finetuning.work import Work, opened, require_same
from mace_weak.command.frames import Keys
from mace_weak.command.judging.evaluation import error_tables, judged
from mace_weak.command.models import Model, host_of, load_model, predict, reading
from mace_weak.command.output import Result, Table
from mace_weak.command.progress import counter, progress
from mace_weak.command.trainer import run_trainer
from mace_weak.errors import WeakLossError
from mace_weak.tangent.fit import Labels, Settings, Tangent, fit, without_atoms
from mace_weak.tangent.storage import fingerprint, load, save
from mace_weak.tangent.teaching import Course
from mace_weak.versions import MACE

if TYPE_CHECKING:
    from mace_weak.mace.finetuning import Predicted
    from mace_weak.mace.tangent import ParametricModel

SOLUTION, OUTPUT = "solution.npz", "training.txt"
CPU_MEMORY = 4.0  # GB
GPU_SHARE = 0.75


@dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of ``mace-weak finetune``."""

    foundation: str
    train: Path
    out: Path
    test: Path | None
    head: str | None
    keys: Keys
    overwrite: bool
    seed: int
    device: str
    memory: float | None


def finetuned(request: Request) -> Result:
    """Write the model; returns tables, findings and the files that were written.

    Raises:
        WeakLossError: if an argument, a file or a label cannot be used, or the trainer fails.
    """
    if host_of(request.foundation) != MACE:
        raise WeakLossError(
            f"'{request.foundation}' is a model of NequIP: finetune takes models of MACE. Train by "
            "nequip-train with mace_weak.nequip.train.WeakTaylorLoss (see mace-weak check)"
        )
    inputs = [path for path in (request.train, request.test) if path is not None]
    work = opened(request.out, inputs=inputs, overwrite=request.overwrite)
    with work.timed("checks"):
        structures = labelled_structures(request.train, request.keys)
        require_same(work, contents_of(request))
        foundation = load_model(_single_headed(request, work), device=request.device)
        result = findings_of(request, foundation)
    if any(finding.wrong for finding in result.findings):
        result.notes.append("Nothing was trained: correct what is wrong above first.")
        work.clear()
        return result
    work.mark(contents_of(request))
    Finetuning(request, work, foundation, structures).run(result)
    return result


def _single_headed(request: Request, work: Work) -> str:
    """The file of the foundation model with the head that is trained, in the folder of work."""
    with reading(request.foundation):
        from mace_weak.mace.finetuning import FOUNDATION, save_foundation

        path = work.folder / FOUNDATION
        if not path.is_file():
            save_foundation(request.foundation, path, head=request.head, device=request.device)
    return str(path)


def contents_of(request: Request) -> dict[str, object]:
    """What the work depends on, by names that a message can give."""
    file = Path(request.foundation)
    return {
        "foundation model": _digest(file) if file.is_file() else request.foundation,
        "training file": _digest(request.train),
        "head": request.head,
        "key": [request.keys.energy, request.keys.forces],
        "seed": request.seed,
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def findings_of(request: Request, foundation: Model) -> Result:
    """The findings of ``mace-weak check`` on the files."""
    test = survey(request.test, request.keys) if request.test else None
    found = checked(
        survey(request.train, request.keys), None, test,
        foundation=request.foundation, model=foundation, keys=request.keys, device=request.device,
    )  # fmt: skip
    return Result(findings=found.findings)


@dataclass
class Finetuning:
    """One fine-tuning by MACE."""

    request: Request
    work: Work
    foundation: Any  # a SavedModel of mace_weak.mace.saved, whose host may be absent
    structures: Structures

    def run(self, result: Result) -> None:
        from mace_weak.mace.finetuning import parametric_model
        from mace_weak.mace.tangent import predicted

        frames = self.structures.frames
        with self.work.timed("solution"):
            model = parametric_model(self.foundation, frames)
            with counter("foundation", total=len(frames)) as done:
                start = predicted(model, done)
            labels = self.labels(model, start)
            tangent = self.solution(model, labels)
        decided = undecided(tangent.account)
        with self.work.timed("training"):
            if decided is None:
                self.distil(model, tangent, start, labels)
                shifts = self.by_element(self.shifts_of_trained())
                self.deliver(shifts)
            else:
                result.findings.append(decided)
                shifts = self.by_element(without_atoms(labels)[0])
                self.train_anchored(shifts)
                self.deliver({})
        result.written.append(self.request.out)
        result.tables += [chosen_table(tangent.account), expected_table(tangent.account, decided)]
        result.tables += self.tested()
        result.tables.append(seconds_table(self.work.seconds))
        result.notes += self.notes(shifts, determined=labels.atoms_determined)

    def labels(self, model: ParametricModel, start: Predicted) -> Labels:
        """The labels relative to the foundation model."""
        from mace_weak.mace.tangent import composition

        structures = self.structures
        return Labels(
            composition(model),
            structures.energies - start.energies,
            [
                None if own is None else own - there
                for own, there in zip(structures.forces, start.forces, strict=True)
            ],
        )

    def solution(self, model: ParametricModel, labels: Labels) -> Tangent:
        """The tangent model, solved or as an earlier call left it."""
        settings = Settings(seed=self.request.seed, memory=self.memory())
        mark = fingerprint(model, labels, settings)
        path = self.work.folder / SOLUTION
        known = load(path, model.parameters, mark)
        if known is not None:
            return known
        with counter("gradients", total=len(labels)) as done:
            tangent, _ = fit(model, labels, settings, progress=done)
        save(path, tangent, mark)
        return tangent

    def memory(self) -> float:
        """Bytes that the gradients may take."""
        import torch

        if self.request.memory is not None:
            return 1e9 * self.request.memory
        if self.request.device.startswith("cuda"):
            return GPU_SHARE * torch.cuda.mem_get_info(self.request.device)[0]
        return 1e9 * CPU_MEMORY

    def distil(
        self, model: ParametricModel, tangent: Tangent, start: Predicted, labels: Labels
    ) -> None:
        """Let MACE's trainer learn from the tangent model."""
        from mace_weak.mace import finetuning as of_mace

        folder = self.work.folder
        if self.work.has(of_mace.PRODUCT):
            return
        if not self.work.has(of_mace.LESSONS):
            with counter("lessons", total=len(self.structures.frames)) as done:
                of_mace.write_lessons(
                    folder,
                    self.structures.frames,
                    model=model,
                    tangent=tangent,
                    start=start,
                    energies=self.structures.energies - labels.counts @ tangent.shifts,
                    forces=self.structures.forces,
                    course=Course(copies=of_mace.COPIES, seed=self.request.seed),
                    progress=done,
                )
        settings = of_mace.distilling(len(self.structures.frames) * (1 + of_mace.COPIES))
        arguments = of_mace.distilling_arguments(
            self.foundation, folder.resolve(), settings,
            device=self.request.device, seed=self.request.seed,
        )  # fmt: skip
        self.train(arguments, settings.epochs)

    def shifts_of_trained(self) -> np.ndarray:
        """Shifts of the atoms' energies (eV) that take the trained model to the labels.

        Those of the tangent model are not its own: training carries over what energies differ in,
        and a constant only slowly.
        """
        from mace_weak.mace.finetuning import PRODUCT, parametric_model
        from mace_weak.mace.tangent import predicted

        trained: Any = load_model(str(self.work.folder / PRODUCT), device=self.request.device)
        model = parametric_model(trained, self.structures.frames)
        with counter("energies", total=len(self.structures.frames)) as done:
            return without_atoms(self.labels(model, predicted(model, done)))[0]

    def train_anchored(self, shifts: Mapping[str, float]) -> None:
        """Train with the anchored Taylor loss instead: the energies do not determine the forces.

        ``shifts`` (eV) move the atoms' energies before.
        """
        from mace_weak.mace import finetuning as of_mace

        if self.work.has(of_mace.PRODUCT):
            return
        folder, own = self.work.folder, self.structures
        of_mace.write_labels(folder, own.frames, own.energies.tolist(), own.forces)
        settings = of_mace.anchored_training(int(np.sum(np.isfinite(own.energies))))
        arguments = of_mace.anchored_arguments(
            self.foundation, folder.resolve(), shifts=shifts, settings=settings,
            device=self.request.device, seed=self.request.seed,
        )  # fmt: skip
        self.train(arguments, settings.epochs)

    def train(self, arguments: Sequence[str], epochs: int) -> None:
        """Run MACE's trainer, which keeps the folder locked even if this process is killed."""
        from mace_weak.mace import finetuning as of_mace

        output = self.work.folder / OUTPUT
        run_trainer(
            of_mace.COMMAND, arguments, output,
            epochs=epochs, epoch=of_mace.EPOCH, kept_open=[self.work.lock],
        )  # fmt: skip

    def by_element(self, shifts: np.ndarray) -> dict[str, float]:
        """Shifts of the atoms' energies by element, eV."""
        return dict(zip(self.foundation.elements, shifts.tolist(), strict=True))

    def deliver(self, shifts: Mapping[str, float]) -> None:
        """Write the model file, with the atoms' energies moved by ``shifts`` (eV)."""
        from mace_weak.mace.finetuning import save_product

        save_product(self.work.folder, self.request.out, shifts)

    def tested(self) -> list[Table]:
        """Errors on the test file before and after."""
        from mace_weak.command.evaluate import TYPE_KEY
        from mace_weak.command.frames import read_frames

        if self.request.test is None:
            return []
        frames = list(read_frames(self.request.test))
        models = {
            "foundation model": self.foundation,
            "finetuned": load_model(str(self.request.out), device=self.request.device),
        }
        with self.work.timed("test"):
            found = {
                name: judged(
                    frames,
                    progress(predict(model, frames), f"testing the {name}", total=len(frames)),
                    self.request.keys,
                )
                for name, model in models.items()
            }
        return error_tables(found, TYPE_KEY)

    def notes(self, shifts: Mapping[str, float], *, determined: bool) -> Iterator[str]:
        moved = {name: shift for name, shift in shifts.items() if abs(shift) > 1e-9}
        listed = ", ".join(f"{name} {shift:+.4f} eV" for name, shift in moved.items())
        together = "" if determined else " (these compositions determine only their sum)"
        yield f"The energies of the atoms moved to the level of the labels: {listed}{together}."
        if self.structures.isolated:
            yield (
                f"{self.structures.isolated} isolated atoms of {self.request.train} were left out: "
                "the energies of the atoms follow from the other structures."
            )
        yield f"The work is in {self.work.folder}; it is no longer needed."
