"""The OpenAI Batch file format, written and read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.ask.budget import Budget
from sightline.ask.ledger import Ledger
from sightline.ask.question import Question
from sightline.ask.run import Judge


@dataclass(frozen=True)
class BatchRead:
    """What the lines of result files were, by outcome (`stored`, `expired`, `duplicate`, `unknown_id`, ...)."""

    lines: dict[str, int]
    requeued: int


def write_batch(
    questions: Iterable[Question],
    directory: Path,
    *,
    ledger: Ledger,
    budget: Budget | None = None,
    asks: int = 1,
) -> list[Path]:
    """Write what the ledger does not answer yet as `requests-00001.jsonl`, ...; 50,000 requests and 200 MB at most each.

    What was written before and not read back is not written again.
    """
    raise NotImplementedError


def read_batch(
    results: Sequence[Path], questions: Iterable[Question], *, ledger: Ledger, judge: Judge, asks: int = 1
) -> BatchRead:
    """Store the replies of result and error files, judge them, and put what has none back to pending."""
    raise NotImplementedError
