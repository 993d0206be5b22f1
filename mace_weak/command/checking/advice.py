"""A training command that suits the data that was checked."""

from __future__ import annotations

import shlex

from mace_weak.command.checking import mace_advice, nequip_advice
from mace_weak.command.checking.subject import Subject
from mace_weak.command.models import host_of
from mace_weak.versions import NEQUIP


def training_command(subject: Subject) -> str:
    """A call of the trainer of the foundation's host; without a foundation, of MACE's."""
    if subject.foundation and host_of(subject.foundation) == NEQUIP:
        advice = nequip_advice.advice(subject, subject.foundation)
    else:
        advice = mace_advice.advice(subject)
    comment, program, flags = advice
    return " \\\n    ".join([f"# {comment}\n{program}", *map(shlex.quote, flags)])
