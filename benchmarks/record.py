"""What a measurement is worth nothing without: the machine, the date, the commit, the versions. And its table.

Comes in: rows of figures. Goes out: a table on the terminal and a JSON file. Measures nothing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Grid

from sightline.atomic import write_atomic

ROOT = Path(__file__).parents[1]
PACKAGES = ("sightline", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "numpy", "pillow")

MOST_COLUMNS = 9
"""That a terminal of 80 columns holds."""

Row = dict[str, Any]


@dataclass(kw_only=True)
class Table:
    """Rows that are printed, with what was measured on the way (`details`), which is only written."""

    title: str
    rows: list[Row]
    details: list[Row] = field(default_factory=list)


def machine() -> Row:
    """Where and with what."""
    found: Row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": _first(r"model name\s*: (.*)", Path("/proc/cpuinfo")) or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", Path("/proc/meminfo")) or 0) / 2**20, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: known for name in PACKAGES if (known := _version(name)) is not None},
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def commit() -> str:
    """The commit of the code that runs, with a mark when files differ from it; `unknown` outside of git."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + ("-changed" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def show(table: Table, console: Console) -> None:
    """Prints a table; columns are the rows' keys, in the order of their first occurrence."""
    rows = upright(table.rows)
    columns = columns_of(rows)
    grid = Grid(title=table.title, title_justify="left", header_style="bold")
    for column in columns:
        words = column == columns[0] or all(isinstance(row.get(column, ""), str) for row in rows)
        grid.add_column(column, justify="left" if words else "right")
    for row in rows:
        grid.add_row(*(cell(row.get(column)) for column in columns))
    console.print(grid)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All keys."""
    return list(dict.fromkeys(key for row in rows for key in row))


def upright(rows: Sequence[Row]) -> list[Row]:
    """Rows of more than `MOST_COLUMNS` figures turned into columns, named by what was their first figure."""
    columns = columns_of(rows)
    if len(columns) <= MOST_COLUMNS:
        return list(rows)
    first, *figures = columns
    return [{first: figure, **{str(row[first]): row.get(figure) for row in rows}} for figure in figures]


def cell(value: object) -> str:
    """A figure in three digits that count, or as it is."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1e}" if value != 0 and abs(value) < 1e-3 else f"{value:,.{_decimals(value)}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(table: Table) -> str:
    """The table for a document."""
    rows = upright(table.rows)
    columns = columns_of(rows)
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


class Record:
    """One run's tables: on the console, and in `directory` as JSON and Markdown, which grow table by table."""

    def __init__(self, name: str, directory: Path, console: Console) -> None:
        self._console = console
        self.facts = machine()
        self.path = directory / f"{name}-{re.sub(r'[^0-9T]', '', self.facts['date'][:19])}.json"
        self._tables: dict[str, list[Table]] = {}

    def add(self, what: str, table: Table) -> None:
        """Shows a table, and writes it beside the facts of the machine and the tables before it."""
        self._tables.setdefault(what, []).append(table)
        content = {name: [vars(table) for table in found] for name, found in self._tables.items()}
        text = [f"`{json.dumps(self.facts)}`"]
        text += [f"### {table.title}\n\n{markdown(table)}" for found in self._tables.values() for table in found]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        both = {"machine": self.facts, "results": content}
        write_atomic(self.path, json.dumps(both, indent=1, default=str) + "\n")
        write_atomic(self.path.with_suffix(".md"), "\n\n".join(text) + "\n")
        show(table, self._console)


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3


def _first(pattern: str, path: Path) -> str | None:
    found = re.search(pattern, path.read_text()) if path.exists() else None
    return found.group(1) if found else None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
