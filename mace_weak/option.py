"""One option of the weak losses: its name, how its text is read, its range and its meaning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mace_weak.errors import WeakLossError

PREFIX = "weak_"


@dataclass(frozen=True)
class Option:
    """One option: how its text is read, its default, its range and what it means."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    valid: Callable[[Any], bool] = lambda value: True
    range: str = ""

    @property
    def key(self) -> str:
        return PREFIX + self.name

    @property
    def flag(self) -> str:
        return f"--{self.key}"

    def check(self, value: Any) -> Any:
        """``value`` as the option's type.

        Raises:
            WeakLossError: if it is of another type, or outside the option's range or choices.
        """
        expected = self.range or f"one of {', '.join(self.choices)}"
        try:
            parsed = self.parse(value)
        except (TypeError, ValueError, OverflowError):
            raise WeakLossError(f"{self.key} must be {expected}, not '{value}'") from None
        if (self.choices and parsed not in self.choices) or not self.valid(parsed):
            raise WeakLossError(f"{self.key} must be {expected}, not '{value}'")
        return parsed


def finite(value: Any) -> float:
    """``value`` as a number; ValueError if it is infinite or none."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def whole(value: Any) -> int:
    """``value`` as a whole number; ValueError if it has a fraction, OverflowError if infinite."""
    if isinstance(value, str):
        return int(value)
    if value != int(value):
        raise ValueError(value)
    return int(value)
