"""Several runs in one table, with the published figures of LLaVA beside them.

Comes in: folders that `sightline evaluate` wrote. Goes out: rows of figures, one column to a benchmark, on the scale
that papers print. The published figures are data, `published.json`, with their sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import DataError
from sightline.evaluate.evaluation import SCORE
from sightline.evaluate.results import figure


class Column(NamedTuple):
    """A benchmark's printed figure: which one, times what; `top` is the best there can be. `protocol`: whose rules the
    published figure is by, where that is not the run's own."""

    task: str
    title: str
    figure: str
    scale: float
    decimals: int
    top: float
    protocol: str | None = None

    def shown(self, value: float | None) -> str:
        return "" if value is None else f"{value:.{self.decimals}f}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model's figures by benchmark. `source`: where they are from; `partial`: benchmarks that were asked in part."""

    name: str
    figures: Mapping[str, float]
    source: str
    partial: frozenset[str] = frozenset()
    published: bool = False


@cache
def _published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files("sightline.evaluate") / "published.json").read_text())
    return content


def known_columns() -> list[Column]:
    """LLaVA-1.5's twelve benchmarks, in the order of its table."""
    return [Column(**entry) for entry in _published()["columns"]]


def published_rows() -> list[Row]:
    """LLaVA's own figures."""
    sources = _published()["sources"]
    return [
        Row(name=entry["name"], figures=entry["figures"], source=sources[entry["source"]], published=True)
        for entry in _published()["rows"]
    ]


def notes() -> list[str]:
    """What is to be known of the published figures."""
    return list(_published()["notes"])


def read_run(folder: Path) -> Row:
    """The figures of a folder with one folder to a benchmark.

    Raises:
        DataError: there is no scored benchmark in it, or a file in it is not what was written.
    """
    found: dict[str, float] = {}
    partial = set()
    names = set()
    paths = sorted(folder.glob(f"*/{SCORE}"))
    if not paths:
        raise DataError(
            f"{folder}: no */{SCORE} in it; give a folder that sightline evaluate wrote by --out", reason="no_run"
        )
    for path in paths:
        try:
            content = json.loads(path.read_text())
            task, results = content["task"], content["results"]
            names.add(content["model"])
            column = next((one for one in known_columns() if one.task == task), None)
            protocol = column.protocol if column and column.protocol in results else content["protocol"]
            result = results.get(protocol)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a score of ours ({error}); evaluate again", reason="file_invalid") from error
        if result is None:
            continue
        whole = result["answered_only"] is None
        name, scale = (column.figure, column.scale) if column else (result["metric"], 1)
        value = figure(result["figures"] if whole else result["answered_only"], name)
        if isinstance(value, int | float):
            found[task] = scale * value
            if not whole:
                partial.add(task)
    return Row(name=", ".join(sorted(names)), figures=found, source=str(folder), partial=frozenset(partial))


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Those that a run has a figure for, the known ones first; without runs, all that any row has."""
    wanted = {task for row in rows if not row.published for task in row.figures}
    wanted = wanted or {task for row in rows for task in row.figures}
    known = [column for column in known_columns() if column.task in wanted]
    others = sorted(wanted - {column.task for column in known})
    return known + [_other(task, rows) for task in others]


def _other(task: str, rows: Sequence[Row]) -> Column:
    top = max(row.figures[task] for row in rows if task in row.figures)
    return Column(task, task, "", 1, 2, 100 if top > 1 else 1)


def table(rows: Sequence[Row]) -> str:
    """For people; a figure over a part of the questions has a star."""
    columns = columns_of(rows)
    width = max(len(row.name) for row in rows) + 2
    lines = [f"{'':<{width}}" + "".join(f"{column.title:>{_width(column)}}" for column in columns)]
    for row in rows:
        cells = [column.shown(row.figures.get(column.task)) + "*" * (column.task in row.partial) for column in columns]
        if any(cells):
            lines.append(
                f"{row.name:<{width}}"
                + "".join(f"{cell:>{_width(column)}}" for cell, column in zip(cells, columns, strict=True))
            )
    if any(row.partial for row in rows):
        lines.append("* over the answered questions alone: not the benchmark's figure")
    return "\n".join(line.rstrip() for line in lines)


def _width(column: Column) -> int:
    return max(10, len(column.title) + 2)


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """As `--json` prints it."""
    return {
        "columns": [column._asdict() for column in columns_of(rows)],
        "rows": [
            {
                "name": row.name,
                "figures": dict(row.figures),
                "partial": sorted(row.partial),
                "published": row.published,
                "source": row.source,
            }
            for row in rows
        ],
        "notes": notes(),
    }
