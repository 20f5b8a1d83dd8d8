"""The OpenAI Batch file format, written and read back into the same ledger.

Comes in: questions; later the result and error files of a service that took them elsewhere. Goes out: request files,
then replies in the ledger, judged as those of a run are. Uploads nothing. What belongs together is told by `custom_id`
alone, the question's key: results come in any order.

A file is complete before anybody can see it, and the ledger knows of it before it is there: a kill in between leaves
either no file, and its questions go into the next one, or a whole one, whose questions are not written again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from sightline.ask.budget import Budget, Cost, Prices
from sightline.ask.judging import Judge, judge_stored
from sightline.ask.ledger import Ledger
from sightline.ask.question import Question, request_body
from sightline.ask.reply import LARGEST_REPLY, Unusable
from sightline.atomic import fault_point, fsync_dir, fsync_file
from sightline.errors import BudgetError, ConfigError, DataError, StorageError

MOST_REQUESTS = 50_000
MOST_BYTES = 200 * 10**6
"""Of one file: platform.openai.com/docs/guides/batch says 50,000 requests and 200 MB."""
_LONGEST_LINE = 2 * LARGEST_REPLY
"""Bytes of a result: the largest body, and room for what stands around it and for another way of escaping."""
_COMMIT_LINES = 1000
# Statuses of single results that the same request may not meet again: those that a run tries again, too.
_TRANSIENT = {408, 409, 425, 429}


@dataclass(frozen=True)
class BatchRead:
    """What became of results.

    Attributes:
        lines: of the files, by outcome: `stored`; `failed` (the service had a trouble) and `expired` (or cancelled),
            both open again; `refused` (the request is wrong: the question is dead); `duplicate` (the question has its
            reply); `unknown_id`, `no_id`, `not_json`, `too_long`.
        missing: questions of the same request files that no line speaks of; open again.
        judged: replies by verdict: `accepted`, or the reason for which they were rejected.
    """

    lines: dict[str, int]
    missing: int
    judged: dict[str, int]


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_batch(
    questions: Iterable[Question],
    directory: Path,
    *,
    ledger: Ledger,
    budget: Budget | None = None,
    asks: int = 1,
    seeded: bool = True,
    tokens_field: str = "max_tokens",
) -> list[Path]:
    """Write what the ledger does not answer yet as `requests-00001.jsonl`, ..., each within the format's limits.

    What was written before and has not come back is not written again.

    Args:
        budget: every request counts at its worst until its result is read.
        asks, seeded, tokens_field: see `ask_all` and `request_body`.

    Raises:
        BudgetError: not all of them fit. Files of those that do are written first.
        ConfigError: a file of that name is there, and not of this ledger.
        StorageError: a file or the ledger cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _settle_interrupted(ledger)
    requests = _Requests(questions, ledger, budget or Budget(), asks, seeded=seeded, tokens_field=tokens_field)
    number = ledger.file.read("SELECT COUNT(*) FROM batch").fetchone()[0]
    files = []
    for _, group in groupby(requests, key=_FileNumbers()):
        number += 1
        files.append((directory / f"requests-{number:05d}.jsonl").absolute())
        _write_file(group, files[-1], ledger)
    ledger.commit()  # what was given up for its picture
    if requests.over is not None:
        raise BudgetError(
            f"the budget is reached: {budget}; {len(files)} files are written to {directory}; read their results, or "
            "give a larger budget, then the same command continues"
        )
    return files


@dataclass(frozen=True)
class _Request:
    question: Question
    worst: Cost
    line: bytes


class _Requests:
    """The requests of the questions that are open, as long as the budget has room.

    Attributes:
        over: the first question that did not fit, once the iteration has ended.
    """

    def __init__(
        self,
        questions: Iterable[Question],
        ledger: Ledger,
        budget: Budget,
        asks: int,
        *,
        seeded: bool,
        tokens_field: str,
    ) -> None:
        self._questions, self._ledger, self._budget, self._asks = questions, ledger, budget, asks
        self._seeded, self._tokens_field = seeded, tokens_field
        self.over: Question | None = None

    def __iter__(self) -> Iterator[_Request]:
        spent = self._ledger.spending()
        seen: set[str] = set()
        for question in self._questions:
            if question.key in seen:
                continue
            seen.add(question.key)
            request = self._request(question)
            if request is None:
                continue
            if not self._budget.fits(spent, request.worst):
                self.over = question
                return
            spent = spent.plus(request.worst)
            yield request

    def _request(self, question: Question) -> _Request | None:
        entry = self._ledger.find(question.key)
        if entry is None:
            self._ledger.add(question)
            entry = self._ledger.find(question.key)
            assert entry is not None
        if not entry.is_open(self._asks):
            return None
        asked = replace(question, max_tokens=question.max_tokens * (1 + entry.longer))
        try:
            body = request_body(asked, entry.asks, seeded=self._seeded, tokens_field=self._tokens_field)
        except DataError as error:
            self._ledger.bury(question.key, error.reason)
            return None
        request = {"custom_id": question.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return _Request(question, self._budget.worst(asked), json.dumps(request).encode() + b"\n")


class _FileNumbers:
    """Which file a request goes into: the next one when it would not fit into this one."""

    def __init__(self) -> None:
        self._file = self._requests = self._bytes = 0

    def __call__(self, request: _Request) -> int:
        self._requests += 1
        self._bytes += len(request.line)
        if self._requests > MOST_REQUESTS or self._bytes > MOST_BYTES:
            self._file += 1
            self._requests, self._bytes = 1, len(request.line)
        return self._file


def _write_file(requests: Iterable[_Request], path: Path, ledger: Ledger) -> None:
    if path.exists():
        raise ConfigError(f"{path}: is there already, and this ledger has not written it: give another directory")
    temporary = _temporary(path)
    reserved = []
    try:
        with temporary.open("wb") as file:
            for request in requests:
                file.write(request.line)
                reserved.append((request.question.key, request.worst))
        fsync_file(temporary)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}; make room, then start again") from error
    ledger.file.write("INSERT INTO batch VALUES (?, 0)", str(path))
    for key, worst in reserved:
        ledger.reserve(key, worst, batch=str(path))
    ledger.commit()
    fault_point("batch_known")
    temporary.replace(path)
    fsync_dir(path.parent)
    fault_point("batch_there")
    ledger.file.write("UPDATE batch SET written = 1 WHERE name = ?", str(path))
    ledger.commit()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _settle_interrupted(ledger: Ledger) -> None:
    """After a kill: a file that came to be is written, one that did not takes no questions with it."""
    for (name,) in ledger.file.read("SELECT name FROM batch WHERE written = 0").fetchall():
        if not Path(name).exists():
            _release_rest(ledger, name)
            _temporary(Path(name)).unlink(missing_ok=True)
        ledger.file.write("UPDATE batch SET written = 1 WHERE name = ?", name)
    ledger.commit()


def _release_rest(ledger: Ledger, name: str) -> int:
    """Open the questions of a request file again that have no result; how many."""
    query = "SELECT id FROM attempt WHERE batch = ? AND state = 'batched'"
    waiting = ledger.file.read(query, name).fetchall()
    for (attempt,) in waiting:
        ledger.release(attempt)
    return len(waiting)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_batch(
    results: Sequence[Path],
    questions: Iterable[Question],
    *,
    ledger: Ledger,
    judge: Judge,
    prices: Prices | None = None,
) -> BatchRead:
    """Store the replies of result and error files, judge them, and open again what has none.

    Args:
        results: give the output file and the error file of a batch together: what neither speaks of counts as expired.
        questions: the same as were written.

    Raises:
        ConfigError: a file cannot be read, or there is nothing in any of them.
    """
    lines: Counter[str] = Counter()
    batches: set[str] = set()
    for path in results:
        for number, line in enumerate(_lines(path), start=1):
            lines[_take(line, ledger, batches)] += 1
            if number % _COMMIT_LINES == 0:
                ledger.commit()
    if not lines:
        names = ", ".join(str(path) for path in results)
        raise ConfigError(f"{names}: found no line, expected the results of a batch; download its output file again")
    ledger.commit()  # all replies are stored before the first is looked at
    missing = sum(_release_rest(ledger, name) for name in sorted(batches))
    judged: Counter[str] = Counter()
    for question in questions:
        entry = ledger.find(question.key)
        if entry is not None and entry.state == "raw":
            verdict = judge_stored(question, ledger, judge, prices or Prices())
            judged[verdict.reason if isinstance(verdict, Unusable) else verdict or "accepted"] += 1
    ledger.commit()
    return BatchRead(dict(sorted(lines.items())), missing, dict(sorted(judged.items())))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines that are not blank; of one that is too long, its beginning."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE + 1):
                rest = line
                while len(rest) > _LONGEST_LINE and not rest.endswith(b"\n"):
                    rest = file.readline(_LONGEST_LINE + 1)
                if line.strip():
                    yield line
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _take(line: bytes, ledger: Ledger, batches: set[str]) -> str:
    """Bring one result into the ledger; its outcome. The request file that it answers goes into `batches`."""
    if len(line) > _LONGEST_LINE:
        return "too_long"
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        return "not_json"
    key = result.get("custom_id") if isinstance(result, dict) else None
    if not isinstance(key, str):
        return "no_id"
    query = "SELECT id, ask, batch FROM attempt WHERE key = ? AND batch IS NOT NULL ORDER BY id DESC LIMIT 1"
    row = ledger.file.read(query, key).fetchone()
    if row is None:
        return "unknown_id"
    attempt, ask, batch = row
    batches.add(batch)
    entry = ledger.find(key)
    assert entry is not None
    # A result may come after its question was opened again: it is paid for, and taken.
    if entry.state not in ("batched", "pending", "rejected", "dead") or entry.asks > ask:
        return "duplicate"
    body, reason = _body_of(result)
    if reason is None:
        ledger.store(attempt, json.dumps(body).encode())
        return "stored"
    if entry.state != "batched":
        return "duplicate"
    if reason in ("batch_expired", "batch_cancelled"):
        ledger.release(attempt)
        return "expired"
    ledger.fail(attempt, reason, billed=False)
    status = int(reason.removeprefix("http_")) if reason.startswith("http_") else 500
    if status >= 500 or status in _TRANSIENT:
        return "failed"
    ledger.bury(key, reason)
    return "refused"


def _body_of(result: dict[str, Any]) -> tuple[object, str | None]:
    """The body of a result, and why it is none: the batch's code, or `http_` and the status."""
    response, error = result.get("response"), result.get("error")
    if isinstance(response, dict):
        status = response.get("status_code")
        return response.get("body"), None if status == 200 else f"http_{status if isinstance(status, int) else 500}"
    code = error.get("code") if isinstance(error, dict) else None
    return None, code if isinstance(code, str) and code.isidentifier() else "no_response"
