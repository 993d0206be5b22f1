"""The parts of the pages that follow from the code. ``make readme`` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from recipes.quickstart.tables import markdown_table, with_table

DOCS = Path(__file__).parents[1] / "docs"
OPTIONS, NEQUIP, SUPPORTED = (DOCS / f"{name}.md" for name in ("options", "nequip", "supported"))


def roads_table(text: str, host: str, tested: Iterable[str], others: Mapping[str, str]) -> str:
    """``text`` of the page of what is supported, with the host's roads.

    ``test_roads.py`` tests the rows ``tested``; ``others`` have a test of their own.
    """
    rows = [[road, "`test_roads.py`"] for road in tested]
    rows += [[road, f"`{test}`"] for road, test in others.items()]
    return with_table(text, f"{host} roads", markdown_table(["feature", "tested in"], rows))


def require_tests(folder: Path, others: Mapping[str, str]) -> None:
    """Check that the tests that the rows name are there."""
    for test in others.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (folder / file).read_text(), test
