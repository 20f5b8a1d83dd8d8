"""Scoring a file of answers: what `sightline score` does.

Comes in: a task's name, paths, a protocol. Goes out: a `Result`, and a `Comparison` where two files are given. Needs no
model, and imports none.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import DataError
from sightline.evaluate.compare import Comparison, compare
from sightline.evaluate.results import Result
from sightline.evaluate.tasks.registry import task_named

OFFICIAL = "official"


def score_files(
    task: str,
    predictions: Sequence[Path],
    annotations: Sequence[Path],
    *,
    protocol: str = OFFICIAL,
    strict: bool = False,
) -> Result:
    """Scores answers against the official annotations; a folder stands for the files in it.

    Args:
        strict: refuse answers that are missing, extra or given twice, instead of reporting them.

    Raises:
        DataError: a file cannot be used; with `strict`, also if it is not complete.
    """
    with uncollected():
        result = task_named(task).evaluate(files_of(predictions), files_of(annotations), protocol)
    if strict and (result.missing or result.extra or result.doubled):
        names = ", ".join(map(str, predictions))
        raise DataError(
            f"{names}: {result.missing:,} answers missing, {result.extra:,} to unknown questions, {result.doubled:,} "
            f"given twice, of {result.n:,} questions; --strict takes none of these",
            reason="incomplete",
        )
    return result


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's collector of cycles: it would walk millions of annotations again and again, and find none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def compare_results(result: Result, other: Result) -> Comparison:
    """Question by question.

    Raises:
        DataError: they have none in common.
    """
    found = compare(result.values, other.values)
    if found is None:
        raise DataError(f"{result.task}: the two files answer no question in common", reason="wrong_split")
    return found


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The paths, and in place of a folder its files by name: the order in which a folder lists them plays no part.

    Of a folder with folders (MME's), every text file within.

    Raises:
        DataError: a folder is empty.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        inside = inside or sorted(path.rglob("*.txt"))
        if not inside:
            raise DataError(f"{path}: no files in this folder", reason="file_missing")
        found += inside
    return found
