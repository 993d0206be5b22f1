"""What follows from the code in the pages: the options, and the roads through MACE."""

from __future__ import annotations

from pathlib import Path

from readme_tables import OPTIONS as OPTIONS_PAGE
from readme_tables import SUPPORTED, roads_table
from test_roads import OTHER_ROADS, ROADS

from mace_weak.mace.plugin import BASE_LOSS
from mace_weak.options import OPTIONS, Option
from recipes.quickstart.tables import markdown_table, with_table

MACE_ONLY = ("base_loss", "heads")


def meaning(option: Option) -> str:
    choices = ", ".join(f"`{choice}`" for choice in option.choices)
    host = "MACE only: " if option.name in MACE_ONLY else ""
    return f"{host}{option.meaning} ({choices})" if choices else f"{host}{option.meaning}"


def updated() -> dict[Path, str]:
    """The pages as they should be."""
    options = [
        [f"`{option.key}`", f"`{option.default}`", meaning(option)]
        for option in (BASE_LOSS, *OPTIONS)
    ]
    table = markdown_table(["option", "default", "meaning"], options)
    return {
        OPTIONS_PAGE: with_table(OPTIONS_PAGE.read_text(), "options", table),
        SUPPORTED: roads_table(SUPPORTED.read_text(), "mace", ROADS, OTHER_ROADS),
    }


if __name__ == "__main__":
    for path, text in updated().items():
        path.write_text(text)
