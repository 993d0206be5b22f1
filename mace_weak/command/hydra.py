"""Overrides of a configuration, as Hydra's command line (``nequip-train``) reads them."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[\w./+@%-]+", re.ASCII)
BEFORE_QUOTE = re.compile(r"(\\*)('|$)")


def override(key: str, value: object) -> str:
    """``key=value`` with the value as text, whatever signs are in it: those of a path, say.

    Unquoted, Hydra gives spaces, brackets, commas and ``=`` a meaning, and takes no letters
    outside ASCII.
    """
    return f"{key}={quoted(str(value))}"


def quoted(text: str) -> str:
    """Text as one value; backslashes count before a quote only."""
    if PLAIN.fullmatch(text):
        return text
    escaped = BEFORE_QUOTE.sub(lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text)
    return "'" + escaped.replace("${", r"\${") + "'"
