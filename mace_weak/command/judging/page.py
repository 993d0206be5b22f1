"""One HTML file with tables and pictures, which needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Template
from matplotlib.figure import Figure

from mace_weak.command.output import Finding, Table, as_text

PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
         color: #222; background: #fff; }
  h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
  th { border-bottom: 2px solid #888; font-weight: 600; vertical-align: bottom; }
  th:first-child, td:first-child { text-align: left; }
  img { max-width: 100%; height: auto; }
  .finding { border-left: 4px solid #c0392b; padding: .3rem .8rem; background: #fdf1f0; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for finding in findings %}<p class="finding">{{ finding.problem }}<br>{{ finding.mend }}</p>
{% endfor %}
{% for table in tables %}<h2>{{ table.title }}</h2>
<div class="scroll"><table>
<tr>{% for column in table.columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for value in row %}<td>{{ text(value) }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}
{% for name, source in pictures.items() %}<h2>{{ name }}</h2>
<img alt="{{ name }}" src="data:image/png;base64,{{ source }}">
{% endfor %}
</body>
</html>
""",
    autoescape=True,
)


def write_page(
    folder: Path,
    title: str,
    tables: Sequence[Table],
    findings: Sequence[Finding],
    pictures: Mapping[str, Figure],
) -> list[Path]:
    """Write ``evaluation.html`` and a PNG for each picture; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written, sources = [], {}
    for name, figure in pictures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
        path = folder / f"{name.replace(' ', '_')}.png"
        path.write_bytes(content.getvalue())
        written.append(path)
        sources[name] = base64.b64encode(content.getvalue()).decode()
    page = folder / "evaluation.html"
    page.write_text(
        PAGE.render(title=title, tables=tables, findings=findings, pictures=sources, text=as_text)
    )
    return [page, *written]
