"""The arguments of all scripts that train."""

from __future__ import annotations

import argparse
from pathlib import Path

DATA = Path(__file__).parent / "data"


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """The foundation model, and where and how the trainings run."""
    parser.add_argument("--foundation", help="model file or MACE's name of one; default: train it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--finetune-steps", type=int, help="--steps of mace-weak finetune")
    parser.add_argument("--processes", type=int, default=2, help="fine-tunings at a time")
