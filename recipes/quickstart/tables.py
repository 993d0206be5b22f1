"""Tables in Markdown, and their places in a README."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a line for each row."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_versions(table: str, packages: Sequence[str]) -> str:
    """A table, and under it the installed versions that gave it."""
    return f"{table}\n\n{', '.join(f'{name} {version(name)}' for name in packages)}."


def with_table(text: str, marker: str, table: str) -> str:
    """``text`` with ``table`` between its two comments with ``marker``, if it has them."""
    begin, end = f"<!-- {marker} -->", f"<!-- end {marker} -->"
    if begin not in text or end not in text:
        return text
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table}\n{end}{tail}"
