"""The tables of the main README that follow from the code: options and roads.

``python tests/mace/readme.py`` writes them; a test checks that they are up to date.
"""

from __future__ import annotations

from pathlib import Path

from test_roads import OTHER_ROADS, ROADS

from mace_weak.mace.arguments import BASE_LOSS
from mace_weak.options import OPTIONS

README = Path(__file__).parents[2] / "README.md"


def options_table() -> str:
    rows = [
        f"| `{option.flag}` | `{option.default}` | {option.meaning}"
        + (f" ({', '.join(f'`{choice}`' for choice in option.choices)})" if option.choices else "")
        + " |"
        for option in (BASE_LOSS, *OPTIONS)
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


def roads_table() -> str:
    rows = [f"| {road} | `test_roads.py` |" for road in ROADS]
    rows += [f"| {road} | `{test}` |" for road, test in OTHER_ROADS.items()]
    return "\n".join(["| road | tested in |", "|---|---|", *rows])


def replaced(text: str, marker: str, table: str) -> str:
    """``text`` with ``table`` between its two comments with ``marker``."""
    begin, end = f"<!-- {marker} -->", f"<!-- end {marker} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table}\n{end}{tail}"


def updated(text: str) -> str:
    return replaced(replaced(text, "options", options_table()), "roads", roads_table())


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
