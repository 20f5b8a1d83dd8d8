"""The table of several runs as a page, with bars and a radar.

Comes in: rows of figures. Goes out: `compare.html`, which needs nothing beside it, and its charts as PNG.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sightline import __version__
from sightline.atomic import write_atomic
from sightline.evaluate.runs import Column, Row, columns_of, notes

COLORS = ("#2563eb", "#dc2626", "#16a34a", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#4d7c0f")
PUBLISHED = ("#9ca3af", "#6b7280", "#c4b5a0", "#8b9a8b", "#a8a0b8", "#7b8794", "#b0a090", "#94a3a3", "#a39494")
"""Greys: what was published stands behind the runs."""
LEAST_FOR_RADAR = 3
PIXELS = 160


def write_page(rows: Sequence[Row], folder: Path) -> Path:
    """Writes the page and its charts into a folder; rows without any of the columns are left out."""
    columns = columns_of(rows)
    shown = [row for row in rows if any(column.task in row.figures for column in columns)]
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"bars": _png(folder / "bars.png", lambda: _bars(shown, columns))}
    if len(columns) >= LEAST_FOR_RADAR:
        charts["radar"] = _png(folder / "radar.png", lambda: _radar(shown, columns))
    best = {
        column.task: max(row.figures[column.task] for row in shown if column.task in row.figures) for column in columns
    }
    environment = Environment(
        loader=PackageLoader("sightline.evaluate", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("runs_page.html.j2").render(
        rows=shown, columns=columns, charts=charts, best=best, notes=notes(), version=__version__
    )
    path = folder / "compare.html"
    write_atomic(path, page)
    return path


def _png(path: Path, draw: Callable[[], Any]) -> str:
    from matplotlib import rc_context  # here, because importing it takes longer than --help may

    drawn = BytesIO()
    with rc_context({"font.size": 9, "axes.edgecolor": "#d4d7db"}):
        draw().savefig(drawn, format="png", dpi=PIXELS)
    write_atomic(path, drawn.getvalue())
    return f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def _colors(rows: Sequence[Row]) -> list[str]:
    runs = published = 0
    found = []
    for row in rows:
        if row.published:
            found.append(PUBLISHED[published % len(PUBLISHED)])
            published += 1
        else:
            found.append(COLORS[runs % len(COLORS)])
            runs += 1
    return found


def _bars(rows: Sequence[Row], columns: Sequence[Column]) -> Any:
    """One panel to a benchmark, from 0 to the best there can be."""
    from matplotlib.figure import Figure

    across = min(4, len(columns))
    down = math.ceil(len(columns) / across)
    figure = Figure(figsize=(3.4 * across, (0.28 * len(rows) + 0.9) * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    colors = _colors(rows)
    for place, axes in enumerate(grid.flat):
        if place >= len(columns):
            axes.set_visible(False)
            continue
        column = columns[place]
        values = [row.figures.get(column.task) for row in rows]
        spots = range(len(rows), 0, -1)
        axes.barh(spots, [value or 0 for value in values], color=colors, height=0.62)
        for spot, value in zip(spots, values, strict=True):
            axes.text(
                column.top * 0.015 + (value or 0), spot, column.shown(value) or "–", va="center", fontsize=7.5,
                color="#374151",
            )  # fmt: skip
        axes.set_xlim(0, column.top * 1.14)
        axes.set_yticks(list(spots), [row.name for row in rows] if place % across == 0 else [""] * len(rows))
        axes.set_title(column.title, loc="left", fontsize=10, fontweight="bold")
        axes.tick_params(length=0, labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _radar(rows: Sequence[Row], columns: Sequence[Column]) -> Any:
    """Each axis from 0 to the best figure of any row; a row without a figure has a gap there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    angles = [2 * math.pi * place / len(columns) for place in range(len(columns))]
    best = [max(row.figures.get(column.task, 0.0) for row in rows) or 1.0 for column in columns]
    for row, color in zip(rows, _colors(rows), strict=True):
        values = [
            row.figures[column.task] / top if column.task in row.figures else math.nan
            for column, top in zip(columns, best, strict=True)
        ]
        axes.plot(
            [*angles, angles[0]], [*values, values[0]], color=color, marker="o", markersize=3,
            linewidth=1.1 if row.published else 2.2, label=row.name, zorder=2 if row.published else 3,
        )  # fmt: skip
    axes.set_xticks(
        angles,
        [f"{column.title}\n{column.shown(top)}" for column, top in zip(columns, best, strict=True)],
        fontsize=9,
    )
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["25%", "50%", "75%", "best"], fontsize=7, color="#6b7280")
    axes.grid(color="#e5e7eb")
    axes.spines["polar"].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure
