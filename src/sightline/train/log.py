"""What a run tells while it runs: a JSONL file, TensorBoard events, a progress bar on stderr.

Comes in: numbers of a step. Goes out: one line each. On a restart, lines of steps that will be done again are dropped
first, so that no step is there twice. Does not know how the numbers came about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from sightline.atomic import write_atomic

LOG_FILE = "log.jsonl"

WIDE = 160
"""Columns that name, bar, loss, rate, all figures and times take together."""

Row = Mapping[str, Any]
"""Numbers by name; `step` counts from 1, `skipped` lists sample ids, `benchmarks` holds figures by name."""


class Log(Protocol):
    """What a run tells its numbers to."""

    def step(self, row: Row, *, write: bool) -> None: ...
    def write(self, row: Row) -> None: ...
    def say(self, message: str) -> None: ...
    def doing(self, words: str) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NoLog:
    """The log of a process that keeps none: another one does."""

    def step(self, row: Row, *, write: bool) -> None:
        pass

    def write(self, row: Row) -> None:
        pass

    def say(self, message: str) -> None:
        pass

    def doing(self, words: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class RunLog:
    """Open while the run runs; closes its files at the end."""

    def __init__(self, directory: Path, *, name: str, start: int, total: int, quiet: bool = False) -> None:
        self._file = _reopen(directory / LOG_FILE, before=start)
        self._events = SummaryWriter(str(directory / "events"), purge_step=start + 1)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  lr {task.fields[lr]}  {task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task = self._progress.add_task(name, total=total, completed=start, loss="-", lr="-", speed="-")
        self._progress.start()

    def step(self, row: Row, *, write: bool) -> None:
        """Shows a step; writes it down when `write`. `row` has `step`, counted from 1."""
        self._progress.update(
            self._task,
            completed=float(row["step"]),
            loss=f"{row['loss']:.4f}",
            lr=f"{row['lr']:.2e}",
            speed=speed(row, width=self._console.width),
        )
        if write:
            self.write(row)

    def write(self, row: Row) -> None:
        """Appends one line to the log and its numbers to the events."""
        finite = {key: _finite(value) for key, value in row.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                self._events.add_scalar(f"train/{key}", value, int(row["step"]))
            for name, figure in value.items() if isinstance(value, Mapping) else ():
                if figure is not None:
                    self._events.add_scalar(f"{key}/{name}", figure, int(row["step"]))

    def say(self, message: str) -> None:
        """One line on stderr, above the bar."""
        self._progress.console.print(message, highlight=False, markup=False)

    def doing(self, words: str) -> None:
        """What is done between two steps, in the place of the last one's figures."""
        self._progress.update(self._task, speed=words)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._events.close()
        self._file.close()


def speed(row: Row, *, width: int) -> str:
    """A step's figures (see `figures.step_figures`) in a few words: those that are there, and worth a glance.

    Padding and waiting are told from one percent on. On a line of fewer than `WIDE` columns there is room for one.
    """
    words = [f"{row['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in row else []
    if row.get("pictures_per_second"):
        words.append(f"{row['pictures_per_second']:,.1f} pictures/s")
    if "mfu" in row:
        words.append(f"MFU {row['mfu']:.0%}")
    elif "flops_per_second" in row:
        words.append(f"{row['flops_per_second'] / 1e9:,.0f} GFLOP/s")
    for key, name in (("padding", "padding"), ("data_wait", "data wait")):
        if row.get(key, 0) >= 0.01:
            words.append(f"{name} {row[key]:.0%}")
    if "peak_memory_gib" in row:
        words.append(f"{row['peak_memory_gib']:.1f} GiB")
    return ", ".join(words if width >= WIDE else words[:1])


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that a killed process cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _reopen(path: Path, *, before: int) -> TextIO:
    """The log, cut back to the steps up to `before`, open for appending."""
    kept = [row for row in read_log(path) if row["step"] <= before] if path.exists() else []
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
    return path.open("a", encoding="utf-8")


def _finite(value: Any) -> Any:
    """JSON has no NaN; a value that is not a number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
