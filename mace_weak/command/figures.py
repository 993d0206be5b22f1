"""Figures of a model's errors and of its energy surface, and the page that shows them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Template
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import erf

from mace_weak.command.error_bars import Calibration
from mace_weak.command.model_errors import Predicted, errors_of
from mace_weak.command.output import Finding, Table, as_text
from mace_weak.command.surface import Trajectory

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
{% for name, source in figures.items() %}<h2>{{ name }}</h2>
<img alt="{{ name }}" src="data:image/png;base64,{{ source }}">
{% endfor %}
</body>
</html>
""",
    autoescape=True,
)

COLOURS = ("#7f7f7f", "#d95f02", "#1b9e77")  # of the models, in their order
MANY = 2000  # points, from which they are drawn small


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each model: the last one, which is evaluated, has the same in all figures."""
    return dict(zip(reversed(names), reversed(COLOURS), strict=False))


def parity(models: Mapping[str, Sequence[Predicted]]) -> Figure:
    """Predicted against reference forces, and energies per atom, for each model."""
    colours = colours_of(list(models))
    figure = Figure(figsize=(4.2 * len(models), 8), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, sharex="row", sharey="row")
    for column, (name, structures) in enumerate(models.items()):
        errors = errors_of(structures)
        if errors.predicted:
            predicted, reference = (
                np.concatenate(part).ravel() for part in (errors.predicted, errors.reference)
            )
            scatter(axes[0, column], reference, predicted, colours[name])
            axes[0, column].set_title(f"{name}\nforce slope {errors.slope:.3f}")
        axes[0, column].set_xlabel("reference force, eV/Å")
        scatter(axes[1, column], *centred_energies(structures), colours[name])
        axes[1, column].set_xlabel("reference energy − mean, meV/atom")
    axes[0, 0].set_ylabel("predicted force, eV/Å")
    axes[1, 0].set_ylabel("predicted energy − mean, meV/atom")
    return figure


def centred_energies(structures: Sequence[Predicted]) -> tuple[np.ndarray, np.ndarray]:
    """Reference and predicted energies, each without its mean, meV/atom (n_labelled,)."""
    pairs = np.array(
        [
            (structure.labels["energy"] / size, structure.prediction.energy / size)
            for structure in structures
            if "energy" in structure.labels
            for size in (len(structure.atoms),)
        ]
    ).reshape(-1, 2)
    reference, predicted = (
        1e3 * (pairs - pairs.mean(axis=0, keepdims=True)).T if len(pairs) else pairs.T
    )
    return reference, predicted


def scatter(axis: Axes, reference: np.ndarray, predicted: np.ndarray, colour: str) -> None:
    """Points about the diagonal."""
    size = 3 if len(reference) > MANY else 10
    axis.scatter(reference, predicted, s=size, alpha=0.35, linewidths=0, color=colour)
    axis.axline((0, 0), slope=1, color="0.3", linewidth=0.8, zorder=0)
    axis.grid(alpha=0.2)


def taylor(curves: Mapping[str, Mapping[float, float]]) -> Figure:
    """Residual of the Taylor expansion against the length of the displacement."""
    colours = colours_of([name for name in curves if not name.startswith("difference")])
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        lengths, residuals = zip(*curve.items(), strict=True)
        axis.loglog(lengths, residuals, marker="o", color=colours.get(name, "#7570b3"), label=name)
    axis.set_xticks(lengths, [f"{length:g}" for length in lengths], minor=False)
    axis.minorticks_off()
    axis.set_xlabel("displacement of an atom, Å")
    axis.set_ylabel("Taylor residual, meV/atom")
    axis.grid(alpha=0.2)
    axis.legend(frameon=False)
    return figure


def coverage(calibrations: Mapping[str, Calibration]) -> Figure:
    """Share of the errors within a number of standard deviations, against that of normal errors."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axis = figure.subplots()
    widths = np.linspace(0, 3, 61)
    normal = erf(widths / 2**0.5)
    for (name, found), colour in zip(calibrations.items(), COLOURS[1:], strict=True):
        if len(found.labelled.errors):
            shares = [found.within(width) for width in widths]
            axis.plot(normal, shares, color=colour, label=name.partition(",")[0])
    axis.axline((0, 0), slope=1, color="0.3", linewidth=0.8, zorder=0)
    axis.set_xlabel("share of normal errors within z σ")
    axis.set_ylabel("share of errors found within z σ")
    axis.grid(alpha=0.2)
    axis.legend(frameon=False)
    return figure


def energy_drift(trajectories: Mapping[str, Trajectory]) -> Figure:
    """Total energy in molecular dynamics at constant energy."""
    colours = colours_of(list(trajectories))
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for name, found in trajectories.items():
        change = 1e3 * (found.energies - found.energies[0]) / found.n_atoms
        label = f"{name}{', a bond broke' if found.failed else ''}"
        axis.plot(found.times, change, color=colours[name], label=label)
    axis.set_xlabel("time, ps")
    axis.set_ylabel("total energy − start, meV/atom")
    axis.grid(alpha=0.2)
    axis.legend(frameon=False)
    return figure


def write_page(
    folder: Path,
    title: str,
    tables: Sequence[Table],
    findings: Sequence[Finding],
    figures: Mapping[str, Figure],
) -> list[Path]:
    """Write ``evaluation.html`` and a PNG for each figure; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written, sources = [], {}
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
        path = folder / f"{name.replace(' ', '_')}.png"
        path.write_bytes(content.getvalue())
        written.append(path)
        sources[name] = base64.b64encode(content.getvalue()).decode()
    page = folder / "evaluation.html"
    page.write_text(
        PAGE.render(title=title, tables=tables, findings=findings, figures=sources, text=as_text)
    )
    return [page, *written]
