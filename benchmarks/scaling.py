"""How time and memory grow as one thing grows: row length, vocabulary, pictures per sample, number of samples.

Comes in: a size to start from. Goes out: a table, and a plot. Our side alone, every point in a process of its own.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import side
from benchmarks.record import Row, Table
from benchmarks.sizes import MODES, Size
from benchmarks.world import make_world

LEAST_ROWS = 2048
"""Of a vocabulary that has room for words (see `words`)."""

Say = Callable[[str], None]
FACTORS = (1, 2, 4, 8)
STEPS = 3
"""Of which the first is a warm-up."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement: a world, and keys of `train`."""

    what: str
    value: int
    size: Size
    steps: int = STEPS
    world: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)


def points(size: Size, factors: tuple[int, ...] = FACTORS) -> list[Point]:
    """Each thing from its smallest value on, all else as it is."""
    found: list[Point] = []
    for factor in factors:
        length = size.max_length // 4 * factor
        found.append(Point(what="row length", value=length, size=size, changes={"row_length": length}))
    for factor in factors:
        rows = max(LEAST_ROWS, size.language["vocab_size"] // 2) * factor
        wider = replace(size, language={**size.language, "vocab_size": rows})
        found.append(Point(what="vocabulary", value=rows, size=wider))
    for factor in factors:
        longer = replace(size, max_length=size.max_length + size.image_tokens * (factor - 1), batch=size.batch // 2)
        found.append(Point(what="pictures per sample", value=factor, size=longer, world={"pictures": factor}))
    for factor in factors:
        steps = 64 * factor
        few = {"distinct": 64}
        found.append(Point(what="samples", value=steps * size.batch, size=size, steps=steps, world=few))
    return found


def run(*, size: Size, factors: tuple[int, ...] = FACTORS, plot: Path, say: Say) -> list[Table]:
    """A table per thing that grows, and `plot`, a PNG."""
    rows: list[Row] = []
    for point in points(size, factors):
        say(f"scaling: {point.what} {point.value}")
        rows.append(measure(point))
    draw(rows, plot)
    return [
        Table(
            title=f"scaling: {what} ({size.name}, stage 2)", rows=relative([row for row in rows if row["what"] == what])
        )
        for what in dict.fromkeys(row["what"] for row in rows)
    ]


def measure(point: Point) -> Row:
    """Seconds and peak memory of a step, or for the number of samples of reading and checking them."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "world"
        make_world(root, point.size, MODES["stage2"], steps=point.steps, **point.world)
        indexing = point.what == "samples"
        found = side.measure(root, "index" if indexing else "ours", steps=point.steps, changes=point.changes)
    seconds = found["seconds"] if indexing else found["seconds"][1:]
    return {
        "what": point.what,
        "value": point.value,
        "seconds": statistics.median(seconds),
        "peak GiB": found["peak"] / 2**30,
        "beyond imports GiB": (found["peak"] - found["before"]) / 2**30,
    }


def relative(rows: list[Row]) -> list[Row]:
    """The rows with what they are beside the first of them."""
    first = rows[0]
    return [
        {
            **row,
            "value x": row["value"] / first["value"],
            "seconds x": row["seconds"] / first["seconds"],
            "memory x": row["beyond imports GiB"] / max(first["beyond imports GiB"], 1e-9),
        }
        for row in rows
    ]


def draw(rows: list[Row], path: Path) -> None:
    """Time and memory over each thing; all axes begin at 0, so that what grows in proportion is a straight line."""
    things = list(dict.fromkeys(row["what"] for row in rows))
    figure = Figure(figsize=(3.2 * len(things), 5.5), layout="constrained")
    axes = figure.subplots(2, len(things), squeeze=False)
    for column, what in enumerate(things):
        own = [row for row in rows if row["what"] == what]
        for line, key in enumerate(("seconds", "peak GiB")):
            axis = axes[line][column]
            values, found = [row["value"] for row in own], [row[key] for row in own]
            axis.plot(values, found, marker="o")
            axis.set_xlim(0, 1.08 * max(values))
            axis.set_ylim(0, 1.1 * max(found))
            axis.set_xticks(values, [f"{value:,}" for value in values], rotation=45, fontsize=8)
            axis.set_ylabel(key if column == 0 else "")
            axis.set_xlabel(what if line else "")
            axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
