"""A case of the benchmark as a call of ``mace-weak finetune``, with a model of either host."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mace_weak.command.finetune_files import LESSONS
from recipes.benchmark.benchmark_cases import Case
from recipes.benchmark.benchmark_data import Files
from recipes.quickstart import closed_form_call, processes


class ClosedForm:
    """``mace-weak finetune`` on a case, and its model, a file of this ``suffix``."""

    loss = processes.CLOSED_FORM

    def __init__(
        self,
        case: Case,
        *,
        files: Files,
        foundation: str,
        suffix: str,
        options: argparse.Namespace,
    ) -> None:
        self.words = closed_form_call.command_of(
            foundation, files.train, device=options.device, seed=case.seed,
            steps=options.finetune_steps,
        )  # fmt: skip
        self.suffix = suffix

    def command(self) -> list[str]:
        return self.words

    def run(self, out: Path) -> Path:
        """Fine-tune, or take the model of an earlier call; returns the model file."""
        return closed_form_call.finetuned(out, self.words, suffix=self.suffix, quiet=True)

    def measured(self, model: Path) -> dict[str, float]:
        """The force error that the posterior expects, meV/Å, and whether it was taken."""
        work = model.with_name(f"{model.name}.work")
        with np.load(work / "solution.npz") as solution:
            account = json.loads(str(solution["account"]))
        return {
            "expected_force_rmse": round(1e3 * account["force_error"], 2),
            "closed_form": (work / LESSONS).exists(),
        }
