"""``mace-weak finetune``: a fine-tuning in closed form, from the files to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from mace_weak.command.arguments import TYPE_KEY
from mace_weak.command.check import check_data
from mace_weak.command.check_labels import FINETUNE
from mace_weak.command.error_bars import (
    calibration_table,
    digest_of,
    doubtful,
    file_of,
    judged,
    require_error_bars,
    save_error_bars,
)
from mace_weak.command.finetune_account import (
    chosen_table,
    expected_table,
    hold_nearby,
    misspecified,
    not_in_closed_form,
    rounded,
)
from mace_weak.command.finetune_files import (
    LABELS,
    LESSONS,
    VALIDATION,
    Structures,
    Work,
    open_work,
    read_training,
    require_same,
    write_labels,
    write_lessons,
)
from mace_weak.command.model_errors import error_tables, predict_all
from mace_weak.command.models import (
    Host,
    Model,
    Parametric,
    finetuning_host,
    load_model,
    named_by_host,
    reading,
    run_trainer,
)
from mace_weak.command.output import Result, counter, time_table
from mace_weak.command.survey import survey
from mace_weak.compositions import EnergyAgreement, energy_agreement
from mace_weak.structures import (
    Keys,
    evenly,
    is_isolated_atom,
    read_structures,
    require_structures,
)
from mace_weak.tangent.fit import Tangent
from mace_weak.tangent.labels import Labels, Predicted, without_atoms
from mace_weak.tangent.plan import Settings
from mace_weak.tangent.storage import solved
from mace_weak.tangent.teaching import COPIES, Schedule, Task, training_on_labels

SOLUTION, OUTPUT = "solution.npz", "training.txt"
FINISHED = "finished"  # folder
PROBED = 10  # test structures whose error bars are computed, as each component takes a gradient
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
    steps: int | None


def finetune_model(request: Request) -> Result:
    """Write the model; returns tables, findings and the files that were written.

    Raises:
        WeakLossError: if an argument, a file or a label cannot be used, or the trainer fails.
    """
    host = finetuning_host(request.foundation)
    request = replace(request, out=named_by_host(request.out, host))
    files = (request.train, request.test, Path(request.foundation))
    inputs = [path for path in files if path]
    work = open_work(request.out, inputs=inputs, overwrite=request.overwrite)
    with work.timed("checks"):
        structures = read_training(request.train, request.keys)
        contents = contents_of(request)
        require_same(work, contents)
        with reading(request.foundation):
            start = host.save_foundation(
                request.foundation, work.folder, head=request.head, device=request.device
            )
        foundation = load_model(str(start), device=request.device)
        result = findings_of(request, foundation)
    if any(finding.wrong for finding in result.findings):
        result.notes.append("Nothing was trained: correct the errors above first.")
        work.clear()
        return result
    work.mark(contents)
    Finetuning(request, work, host, start, foundation, structures).run(result)
    return result


def contents_of(request: Request) -> dict[str, object]:
    """What the work depends on, by the names that messages use."""
    file = Path(request.foundation)
    return {
        "foundation model": digest_of(file) if file.is_file() else request.foundation,
        "training file": digest_of(request.train),
        "head": request.head,
        "key": [request.keys.energy, request.keys.forces],
        "seed": request.seed,
        "number of steps": request.steps,
    }


def findings_of(request: Request, foundation: Model) -> Result:
    """The findings of ``mace-weak check`` on the files."""
    test = survey(request.test, request.keys) if request.test else None
    if request.test:
        require_structures(test_structures(request.test), request.test)
    found = check_data(
        survey(request.train, request.keys), None, test,
        foundation=request.foundation, model=foundation, keys=request.keys, device=request.device,
        reader=FINETUNE,
    )  # fmt: skip
    return Result(findings=found.findings)


def test_structures(path: Path) -> list[Atoms]:
    """The structures of a test file but isolated atoms."""
    return [atoms for atoms in read_structures(path) if not is_isolated_atom(atoms)]


@dataclass
class Finetuning:
    """One fine-tuning by a host, from the file ``start``, which holds the ``foundation`` model."""

    request: Request
    work: Work
    host: Host
    start: Path
    foundation: Model
    structures: Structures

    def run(self, result: Result) -> None:
        frames = self.structures.frames
        with self.work.timed("solution"):
            model = self.host.parametric_model(self.foundation, frames)
            with counter("foundation", total=len(frames)) as done:
                start = model.predicted(done)
            labels = self.labels(model, start)
            tangent = self.solution(model, labels)
        agreement = self.agreement(labels, start)
        decided = not_in_closed_form(tangent.account, agreement)
        with self.work.timed("training"):
            if decided is None:
                self.distil(model, tangent, start, labels)
            else:
                result.findings.append(decided)
                self.train_on_labels(labels, anchored=not agreement.another_scale)
            shifts = self.by_element(self.shifts_of_trained())
        result.written += self.finish(shifts, model, tangent if decided is None else None)
        if decided is None:
            result.findings += misspecified(tangent.account)
            result.findings += hold_nearby(self.structures.n_labelled)
            if self.foundation.rounds_totals:
                levels = np.array([self.structures.energies, start.energies])
                result.findings += rounded(frames, levels, tangent.account)
        result.tables += [chosen_table(tangent.account), expected_table(tangent.account, decided)]
        if self.request.test is not None:
            self.tested(self.request.test, result, error_bars=decided is None)
        result.complete = True
        result.tables.append(time_table(self.work.seconds))
        result.notes += self.notes(shifts, labels.undetermined_atoms)

    def labels(self, model: Parametric, start: Predicted) -> Labels:
        """The labels relative to the model."""
        structures = self.structures
        return Labels.beyond(start, model.counts, structures.energies, structures.forces)

    def solution(self, model: Parametric, labels: Labels) -> Tangent:
        """The tangent model, solved or as an earlier call left it."""
        settings = Settings(seed=self.request.seed, memory=self.memory())
        with counter("gradients", total=len(labels)) as done:
            return solved(
                model, labels, settings, self.work.folder / SOLUTION,
                error_bars=True, progress=done,
            )  # fmt: skip

    def memory(self) -> float:
        """Bytes that the gradients may take."""
        import torch

        if self.request.memory is not None:
            return 1e9 * self.request.memory
        if self.request.device.startswith("cuda"):
            return GPU_SHARE * torch.cuda.mem_get_info(self.request.device)[0]
        return 1e9 * CPU_MEMORY

    def distil(self, model: Parametric, tangent: Tangent, start: Predicted, labels: Labels) -> None:
        """Let the host's trainer learn from the tangent model."""
        frames = self.structures.frames
        if not self.work.has(LESSONS):
            with counter("lessons", total=len(frames)) as done:
                write_lessons(
                    self.work.folder, self.structures, model=model, on=self.on(model),
                    tangent=tangent, start=start, labels=labels, seed=self.request.seed,
                    progress=done,
                )  # fmt: skip
        schedule = self.host.distilling(len(frames) * (1 + COPIES), self.request.steps)
        task = self.task(LESSONS, VALIDATION, schedule)
        self.train(task, self.host.distilling_arguments(self.foundation, task))

    def on(self, model: Parametric) -> Callable[[Sequence[Atoms]], Parametric]:
        """The model on other structures."""
        return lambda frames: model.on(self.host.graphs_of(self.foundation, frames))

    def shifts_of_trained(self) -> np.ndarray:
        """Shifts of the atoms' energies (eV) from the trained model to the labels.

        It was trained on the foundation model's level, as a constant is learned only slowly.
        """
        product = str(self.work.folder / self.host.PRODUCT)
        trained = load_model(product, device=self.request.device)
        model = self.host.parametric_model(trained, self.structures.frames)
        with counter("energies", total=len(self.structures.frames)) as done:
            return without_atoms(self.labels(model, model.predicted(done)))[0]

    def agreement(self, labels: Labels, start: Predicted) -> EnergyAgreement:
        """How the foundation model's energies agree with the labels."""
        known = np.isfinite(labels.energies)
        energies = (self.structures.energies[known], start.energies[known])
        return energy_agreement(labels.counts[known], *energies)

    def train_on_labels(self, labels: Labels, *, anchored: bool) -> None:
        """Train on the labels themselves instead, with the anchored Taylor loss or without."""
        some_forces = write_labels(
            self.work.folder, self.structures, labels=labels,
            missing_as_nan=self.host.MISSING_AS_NAN,
        )  # fmt: skip
        n_labelled = self.structures.n_labelled
        schedule = training_on_labels(n_labelled, self.request.steps, anchored=anchored)
        task = self.task(LABELS, LABELS, schedule, forces=some_forces)
        arguments = self.host.arguments_on_labels(self.foundation, task, anchored=anchored)
        self.train(task, arguments)

    def task(self, train: str, valid: str, schedule: Schedule, *, forces: bool = True) -> Task:
        """The input of the host's trainer, by names of files in the work folder."""
        folder = self.work.folder.resolve()
        return Task(
            foundation=self.start.resolve(), folder=folder, train=folder / train,
            valid=folder / valid, forces=forces, schedule=schedule,
            device=self.request.device, seed=self.request.seed,
        )  # fmt: skip

    def train(self, task: Task, arguments: Sequence[str]) -> None:
        """Run the host's trainer, which keeps the folder locked even if this process is killed."""
        self.work.drop_broken()
        if self.work.has(self.host.PRODUCT):
            return
        run_trainer(
            self.host.COMMAND, arguments, self.work.folder / OUTPUT,
            epochs=task.schedule.epochs, epoch=self.host.EPOCH, kept_open=[self.work.lock],
        )  # fmt: skip

    def finish(
        self, shifts: Mapping[str, float], model: Parametric, tangent: Tangent | None
    ) -> list[Path]:
        """Write the model and its error bars, if it has a tangent model, and return the files.

        The model's file comes last: a call that was stopped before goes on when it is repeated.
        """
        out = self.request.out
        made = self.work.folder / FINISHED / out.name
        made.parent.mkdir(exist_ok=True)
        self.host.save_product(self.work.folder, made, shifts)
        file_of(out).unlink(missing_ok=True)
        written = [out]
        if tangent is not None:
            with self.work.timed("error bars"):
                bars = save_error_bars(made, tangent, model, device=self.request.device)
            written.append(bars.replace(file_of(out)))
        made.replace(out)
        return written

    def by_element(self, shifts: np.ndarray) -> dict[str, float]:
        """Shifts of the atoms' energies by element, eV."""
        return dict(zip(self.foundation.elements, shifts.tolist(), strict=True))

    def tested(self, test: Path, result: Result, *, error_bars: bool) -> None:
        """Add errors on the test file before and after, and the error bars of some structures."""
        frames = test_structures(test)
        out = str(self.request.out)
        models = {
            "foundation model": self.foundation,
            "finetuned": load_model(out, device=self.request.device),
        }
        with self.work.timed("test"):
            found = predict_all(models, frames, self.request.keys)
            result.tables += error_tables(found, TYPE_KEY)
            if error_bars:
                some, bars = evenly(found["finetuned"], PROBED), require_error_bars(out)
                calibration = judged(out, models["finetuned"], bars, some)
                result.tables.append(calibration_table(calibration))
                result.findings += doubtful(calibration)

    def notes(self, shifts: Mapping[str, float], undetermined: np.ndarray) -> Iterator[str]:
        moved = {name: shift for name, shift in shifts.items() if abs(shift) > 1e-9}
        listed = ", ".join(f"{name} {shift:+.4f} eV" for name, shift in moved.items())
        kinds = zip(self.foundation.elements, undetermined, strict=True)
        open_ones = ", ".join(name for name, is_open in kinds if is_open)
        sums = f" (of {open_ones}, these compositions determine only sums)" if open_ones else ""
        yield f"The energies of the atoms were shifted to the labels' level: {listed}{sums}."
        if self.structures.isolated:
            yield (
                f"{self.structures.isolated} isolated atoms of {self.request.train} were left out: "
                "the energies of the atoms follow from the other structures."
            )
        yield f"Intermediate files are in {self.work.folder}; they are no longer needed."
