"""Train and test the cases of a plan, and write their rows."""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read, write
from tqdm import tqdm

from mace_weak.command.model_errors import Errors
from recipes.benchmark.benchmark_cases import HERE, SCRATCH, Case, Foundation, Plan, located
from recipes.benchmark.benchmark_closed_form import ClosedForm
from recipes.benchmark.benchmark_data import (
    LABELS,
    Files,
    frames_of,
    with_file,
    write_files,
    write_named,
)
from recipes.quickstart import evaluate, processes

ROOT = HERE.parents[1]


class Benchmark:
    """The runs of one plan in one folder."""

    def __init__(self, plan: Plan, options: argparse.Namespace) -> None:
        self.plan = plan
        self.host = import_module(f"recipes.benchmark.benchmark_{options.host}")
        self.options = options
        self.out: Path = options.out.resolve()
        self.sources: dict[str, Foundation] = {}
        self.foundations: dict[str, str] = {SCRATCH: SCRATCH}
        self.test_files: dict[str, Path] = {}
        self.train_files: dict[Case, Files] = {}
        self.kept: list[dict[str, str]] = []
        if options.keep and options.csv.exists():
            self.kept = list(csv.DictReader(options.csv.read_text().splitlines()))

    def foundation(self, name: str) -> str:
        """The foundation model of that name: a file, trained if it is not there."""
        if name not in self.foundations:
            source, device = self.source(name), self.options.device
            if self.options.foundation:
                self.foundations[name] = self.options.foundation
            elif source.model:
                self.foundations[name] = str(located(source.model, self.options.shared))
            else:
                self.foundations[name] = self.host.train_foundation(
                    self.out, name, source, device=device, threads=self.options.processes
                )
        return self.foundations[name]

    def source(self, name: str) -> Foundation:
        """How the foundation model of that name is made, its training set as one file."""
        if name not in self.sources:
            folder, shared = self.out / "data", self.options.shared
            declared = self.plan.foundations[name]
            self.sources[name] = with_file(declared, name, shared=shared, folder=folder)
        return self.sources[name]

    def foundation_name(self, case: Case) -> str:
        return self.plan.methods[case.method].foundation or self.plan.data[case.data].foundation

    def anchor(self, case: Case) -> str | None:
        """The model file of the anchor, where a method does not start from it."""
        anchored = self.plan.methods[case.method].anchored
        return self.foundation(self.plan.data[case.data].foundation) if anchored else None

    def refused(self, case: Case) -> str | None:
        """Why a case is left out; None if it is not."""
        data = self.plan.data[case.data]
        if absent := data.absent(self.options.shared):
            return f"{absent[0]} is not there"
        return self.host.refused(self.plan.methods[case.method], data)

    def prepare(self, cases: list[Case]) -> None:
        """Write the files of the cases, reading each source once, and train the foundations."""
        folder, shared = self.out / "data", self.options.shared
        for name in dict.fromkeys(case.data for case in cases):
            data = self.plan.data[name]
            test = frames_of(data.test, shared, forces_needed=True)
            self.test_files[name] = write_named(folder, f"{name}-test", test)
            of_data = [case for case in cases if case.data == name]
            labels = {case: self.plan.methods[case.method].labels for case in of_data}
            needed = any(LABELS[kind].needs_forces for kind in labels.values())
            pool = frames_of(data.train, shared, forces_needed=needed)
            for case in of_data:
                self.train_files[case] = write_files(folder, pool, case, labels[case])
        for case in cases:
            self.foundation(self.foundation_name(case))
            self.anchor(case)

    def training(self, case: Case) -> Any:
        data, method = self.plan.data[case.data], self.plan.methods[case.method]
        if method.closed_form:
            foundation = self.foundation(self.foundation_name(case))
            return ClosedForm(
                case,
                files=self.train_files[case],
                foundation=foundation,
                suffix=self.host.MODEL_SUFFIX,
                options=self.options,
            )
        return self.host.Training(
            case,
            method=self.plan.methods[case.method],
            data=data,
            files=self.train_files[case],
            source=self.source(data.foundation),
            foundation=self.foundation(self.foundation_name(case)),
            anchor=self.anchor(case),
            device=self.options.device,
        )

    def origin(self, case: Case, training: Any, measured: Mapping[str, Any]) -> dict[str, str]:
        """What a row depends on: if it is the same, so is the row.

        Whether a fine-tuning trained on the labels is among what was ``measured``.
        """
        on_labels = str(measured.get("closed_form")) == "False"
        return {
            **self.versions(),
            "test": self.test_files[case.data].name,
            "defaults": processes.defaults_of(training.loss, on_labels=on_labels),
            "command": self.published(shlex.join(training.command())),
        }

    def kept_row(self, case: Case) -> dict[str, Any] | None:
        """The row of an earlier call, if it is to be kept and is there."""
        if not self.kept:
            return None
        training = self.training(case)
        for row in self.kept:
            origin = self.origin(case, training, row)
            if all(row.get(key) == value for key, value in origin.items()):
                return {**row, **vars(case)}
        return None

    def row_as_it_is(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of an earlier call with these settings, if it is there."""
        texts = {name: str(value) for name, value in settings.items()}
        return next((row for row in self.kept if texts.items() <= row.items()), None)

    def row(self, case: Case) -> dict[str, Any]:
        """Train and test one case."""
        training = self.training(case)
        model = training.run(self.out)
        measured = training.measured(model)
        return {
            "host": self.options.host,
            **vars(case),
            **self.errors(str(model), case.data),
            **self.dynamics(model, case),
            **self.frequencies(model, case.data),
            **measured,
            "seconds": float(model.with_name("seconds").read_text()),
            **self.origin(case, training, measured),
        }

    def start_row(self, data: str) -> dict[str, Any] | None:
        """The errors of the model that fine-tuning starts from; None if neither here nor kept."""
        settings = {"host": self.options.host, "data": data, "method": "foundation"}
        if data not in self.test_files:
            return self.row_as_it_is(settings)
        model = self.foundation(self.plan.data[data].foundation)
        measured = {**self.errors(model, data), **self.frequencies(Path(model), data)}
        return {**settings, "structures": 0, **measured, **self.versions()}

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in self.host.PACKAGES}

    def predicted(self, model: str, file: Path) -> list[Atoms]:
        """The structures of a file with the model's energies and forces, kept for another call."""
        model = self.host.model_file(model)  # in its own precision, also where it has a name
        content = Path(model).read_bytes() if Path(model).is_file() else model.encode()
        digest = hashlib.sha256(content).hexdigest()[:8]
        kept = self.out / "predicted" / f"{digest}-{file.name}"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            write(kept, evaluate.predicted(model, file, device=self.options.device))
        return read(kept, ":")

    def errors(self, model: str, data: str) -> dict[str, float]:
        return columns_of(evaluate.errors_of(self.predicted(model, self.test_files[data])))

    def dynamics(self, model: Path, case: Case) -> dict[str, Any]:
        """How long the model holds at the temperatures of the set, if it has some."""
        wanted = self.plan.sets[self.options.set].get("dynamics", {"temperatures": []})
        measured: dict[str, Any] = {}
        for temperature in wanted["temperatures"]:
            found = self.measured_by(
                "dynamics", model, self.test_files[case.data], f"{temperature}-{wanted['steps']}",
                f"--temperature={temperature}", f"--steps={wanted['steps']}", f"--seed={case.seed}",
            )  # fmt: skip
            measured |= {f"{name}_{temperature}": value for name, value in found.items()}
        return measured

    def frequencies(self, model: Path, data: str) -> dict[str, Any]:
        """How far the vibrations are from those of the reference, in a set that asks for it."""
        minimum = self.plan.data[data].minimum
        if not minimum or not self.plan.sets[self.options.set].get("frequencies"):
            return {}
        file = located(minimum, self.options.shared)
        return self.measured_by("frequencies", model, file, file.stem)

    def measured_by(
        self, script: str, model: Path, file: Path, name: str, *settings: str
    ) -> dict[str, Any]:
        """What a script says of a model of MACE and a file; kept beside the model by ``name``."""
        if self.options.host != "mace":
            return {}
        path = model.with_name(f"{script}-{name}.json")
        if not path.exists():
            module = ("-m", f"recipes.benchmark.{script}")
            path.write_text(
                processes.output_of(
                    sys.executable, *module, model, file, *settings,
                    f"--device={self.options.device}",
                )
            )  # fmt: skip
        return json.loads(path.read_text().splitlines()[-1])

    def published(self, command: str) -> str:
        """A command line without the folders of this machine."""
        folders = {self.options.shared: "shared", self.out: "results", ROOT: "."}
        for folder, name in folders.items():
            command = command.replace(f"{os.path.abspath(folder)}/", f"{name}/")
        return command

    def run(self, cases: list[Case], only: Mapping[str, Collection[str]]) -> None:
        """Write the rows of the foundations and the cases, ``--processes`` trainings at a time.

        Of the cases those are trained that have one of the values of each setting in ``only``;
        the rows of others stay as they are in a table that is kept.
        """
        wanted = [
            case
            for case in cases
            if all(str(getattr(case, setting)) in values for setting, values in only.items())
        ]
        self.prepare(wanted)
        start = list(filter(None, map(self.start_row, dict.fromkeys(case.data for case in cases))))
        found = {
            case: self.kept_row(case) if case in wanted else self.row_as_it_is(vars(case))
            for case in cases
        }
        rows = {case: row for case, row in found.items() if row}
        with ThreadPoolExecutor(self.options.processes) as pool:
            futures = {pool.submit(self.row, case): case for case in wanted if case not in rows}
            bar = tqdm(as_completed(futures), total=len(futures), unit="case")
            for future in bar:
                case = futures[future]
                rows[case] = future.result()
                bar.set_postfix_str(f"{case.title}: {rows[case]['force_rmse']:.0f} meV/Å")
                done = [rows[case] for case in cases if case in rows]
                write_csv(self.options.csv, [*start, *done])


def columns_of(errors: Errors) -> dict[str, float]:
    """Those of a row: meV/atom, meV/Å, no unit, and meV/Å³ where stresses are known."""
    stress = errors.stress_rmse
    return {
        "energy_rmse": round(errors.energy_rmse_about_mean, 3),
        "force_rmse": round(errors.force_rmse, 2),
        "slope": round(errors.slope, 4),
        **({} if stress is None else {"stress_rmse": round(stress, 3)}),
    }


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(itertools.chain(rows[-1], *rows)))  # stress is not known of all data
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
