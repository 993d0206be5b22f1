"""The tables of the main README that follow from the code: options and roads.

``make readme`` writes them; a test checks that they are up to date.
"""

from __future__ import annotations

from pathlib import Path

from tables import markdown_table, with_table
from test_roads import OTHER_ROADS, ROADS

from mace_weak.mace.arguments import BASE_LOSS
from mace_weak.options import OPTIONS, Option

README = Path(__file__).parents[2] / "README.md"


def meaning(option: Option) -> str:
    choices = ", ".join(f"`{choice}`" for choice in option.choices)
    return f"{option.meaning} ({choices})" if choices else option.meaning


def updated(text: str) -> str:
    """``text`` of the README with both tables as they should be."""
    options = [
        [f"`{option.flag}`", f"`{option.default}`", meaning(option)]
        for option in (BASE_LOSS, *OPTIONS)
    ]
    roads = [[road, "`test_roads.py`"] for road in ROADS]
    roads += [[road, f"`{test}`"] for road, test in OTHER_ROADS.items()]
    text = with_table(text, "options", markdown_table(["option", "default", "meaning"], options))
    return with_table(text, "roads", markdown_table(["road", "tested in"], roads))


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
