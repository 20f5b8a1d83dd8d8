"""What was asked, what it cost, what came back: one SQLite file that a kill at any moment leaves whole.

Comes in: the steps of each asking. Goes out: which questions are still open, the accepted replies in the order of their
keys, counts and costs. Asks nobody and judges nothing.

A question is `pending`, then `reserved` (its worst cost is set aside), `sent`, `raw` (the reply is stored, nobody has
looked at it), then `accepted`, `rejected` or `dead`. One that waits for a batch file to come back is `batched`. Every
try is a row of its own. Writes take hold together at `commit`, which returns when they are on the disk: before a call
that costs money, and before a reply is looked at. A row that is `sent` when a ledger is opened belongs to a process
that was killed: its reply is lost, its worst cost counts as spent, and the question is open again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sightline.ask.budget import Cost
from sightline.ask.ledger_file import LedgerFile
from sightline.ask.question import Question, Reply
from sightline.ask.reply import read_reply
from sightline.errors import ConfigError


@dataclass(frozen=True)
class Count:
    """So many questions of a kind are in a state, for a reason ("" where there is none)."""

    kind: str
    state: str
    reason: str
    count: int


class Entry(NamedTuple):
    """Where a question stands.

    Attributes:
        asks: replies that were judged.
        longer: 1 when one was cut at `max_tokens`: it is to be asked once more, with a larger cap.
        attempt: the try that is under way, or was the last.
    """

    state: str
    reason: str
    asks: int
    longer: int
    attempt: int | None

    def is_open(self, asks: int) -> bool:
        """Whether it is to be asked, when it may be asked `asks` times in all."""
        return self.state in ("pending", "rejected") and self.asks < asks + self.longer


@dataclass(frozen=True)
class Answer:
    """An accepted reply, and what it answers."""

    key: str
    kind: str
    subject: str
    model: str
    version: str
    edition: str
    reply: Reply


class Ledger:
    """One run's questions and replies. One process at a time writes; any number read.

    Attributes:
        file: under it.
        lost: requests of processes that were killed before their reply was stored, found when this one opened it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or makes the file.

        Raises:
            ConfigError: another process writes to it, or it is no ledger.
            StorageError: it cannot be written.
        """
        self.lost = 0
        self._spent = Cost()
        self.file = LedgerFile(path, read_only=read_only)
        with ExitStack() as stack:
            stack.enter_context(self.file)
            self._load()
            if not read_only:
                self._recover()
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was written since the last commit is kept, unless writing has failed."""
        self.file.__exit__(kind, error, trace)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def find(self, key: str) -> Entry | None:
        """Where a question stands; None for one that was never seen."""
        query = "SELECT state, reason, asks, longer, attempt FROM question WHERE key = ?"
        row = self.file.read(query, key).fetchone()
        return Entry(*row) if row else None

    def raw(self, attempt: int) -> bytes:
        """The body that a try brought."""
        return bytes(self.file.read("SELECT raw FROM attempt WHERE id = ?", attempt).fetchone()[0])

    def accepted(self, *, editions: Collection[str] | None = None, mixed: bool = False) -> Iterator[Answer]:
        """The accepted replies in the order of their keys: the same ones, whenever and however often the run stopped.

        Args:
            editions: only these (see `Question.edition`); None for whatever there is.
            mixed: one kind may come in several editions.

        Raises:
            ConfigError: one kind comes in two editions (another model, other prompts) and `mixed` is False.
        """
        query = (
            "SELECT question.key, kind, subject, model, version, edition, raw FROM question "
            "JOIN attempt ON attempt.id = question.attempt WHERE question.state = 'accepted' ORDER BY question.key"
        )
        if not mixed:
            self._refuse_mixture(editions)
        for key, kind, subject, model, version, edition, raw in self.file.read(query):
            if editions is None or edition in editions:
                yield Answer(key, kind, subject, model, version, edition, read_reply(raw, model=model))

    def _refuse_mixture(self, editions: Collection[str] | None) -> None:
        query = (
            "SELECT kind, model, version, edition, COUNT(*) FROM question WHERE state = 'accepted' "
            "GROUP BY kind, edition ORDER BY kind, edition"
        )
        seen: dict[str, str] = {}
        for kind, model, version, edition, count in self.file.read(query):
            if editions is not None and edition not in editions:
                continue
            this = f"{count} by {model} with prompts {version or '-'} (edition {edition})"
            if kind in seen:
                raise ConfigError(
                    f"{self.file.path}: {kind} was answered in two editions, {seen[kind]} and {this}: choose one, or "
                    "ask for the mixture"
                )
            seen[kind] = this

    def counts(self) -> list[Count]:
        """How many questions are in each state, by kind and reason."""
        return [Count(*what, number) for what, number in sorted(self._questions.items()) if number]

    def rejections(self) -> dict[str, int]:
        """How many replies were rejected for each reason, those of questions that were answered later included."""
        return {
            why: number for (state, why), number in sorted(self._attempts.items()) if state == "rejected" and number
        }

    def tries(self) -> dict[str, int]:
        """How many tries ended in each state: `accepted`, `rejected`, `failed` (no reply), `lost`, `released`, ..."""
        sums: Counter[str] = Counter()
        for (state, _), number in sorted(self._attempts.items()):
            sums[state] += number
        return {state: number for state, number in sums.items() if number}

    def spending(self) -> Cost:
        """Tokens and money, whatever is reserved, in flight or lost counted at its worst."""
        return self._spent

    # ---- the steps of an asking --------------------------------------------------------------------------------------

    def add(self, question: Question) -> None:
        """Write down a question that is to be asked."""
        row = (question.key, question.kind, question.subject, question.model, question.version, question.edition)
        self.file.write("INSERT INTO question VALUES (?, ?, ?, ?, ?, ?, 'pending', '', 0, 0, NULL)", *row)
        self._questions[question.kind, "pending", ""] += 1

    def reserve(self, key: str, worst: Cost, *, batch: str | None = None) -> int:
        """Set aside the most that a try can cost; the try's number. With `batch` it waits for that file's results."""
        entry = self.find(key)
        assert entry is not None
        assert entry.state in ("pending", "rejected")
        state = "batched" if batch else "reserved"
        values = (key, entry.asks, state, *worst, batch)
        cursor = self.file.write("INSERT INTO attempt VALUES (NULL, ?, ?, ?, '', ?, ?, ?, ?, NULL)", *values)
        attempt = cursor.lastrowid
        assert attempt is not None
        self._spent = self._spent.plus(worst)
        self._attempts[state, ""] += 1
        self._move(key, state, attempt=attempt)
        return attempt

    def release(self, attempt: int) -> None:
        """Take back a try that was not sent, or that a batch file came back without."""
        key, _ = self._end(attempt, "released", "")
        self.charge(attempt, Cost())
        self._rest(key)

    def sent(self, attempt: int) -> None:
        """The request leaves now. To be committed before it does."""
        key, _ = self._end(attempt, "sent", "")
        self._move(key, "sent")

    def fail(self, attempt: int, reason: str, *, billed: bool) -> None:
        """No reply came. What may have been billed all the same stays counted at its worst."""
        key, _ = self._end(attempt, "failed", reason)
        if not billed:
            self.charge(attempt, Cost())
        self._rest(key)

    def store(self, attempt: int, raw: bytes) -> None:
        """Keep a body as it came. To be committed before anybody looks at it."""
        key, _ = self._end(attempt, "raw", "")
        self.file.write("UPDATE attempt SET raw = ? WHERE id = ?", raw, attempt)
        self._move(key, "raw", attempt=attempt)

    def charge(self, attempt: int, cost: Cost) -> None:
        """What a try cost in fact, in place of its worst."""
        query = "SELECT prompt_tokens, completion_tokens, picos FROM attempt WHERE id = ?"
        before = Cost(*self.file.read(query, attempt).fetchone())
        self.file.write(
            "UPDATE attempt SET prompt_tokens = ?, completion_tokens = ?, picos = ? WHERE id = ?", *cost, attempt
        )
        self._spent = self._spent.minus(before).plus(cost)

    def accept(self, attempt: int) -> None:
        """The reply of this try is the answer."""
        key, ask = self._end(attempt, "accepted", "")
        self._move(key, "accepted", "", asks=ask + 1)

    def reject(self, attempt: int, reason: str, *, longer: bool = False) -> None:
        """The reply of this try is not to be used. `longer`: a larger cap may help."""
        key, ask = self._end(attempt, "rejected", reason)
        self._move(key, "rejected", reason, asks=ask + 1, **({"longer": 1} if longer else {}))

    def bury(self, key: str, reason: str) -> None:
        """Give a question up."""
        self._move(key, "dead", reason)

    def revive(self) -> int:
        """Put the dead back to pending; how many there were."""
        keys = [key for (key,) in self.file.read("SELECT key FROM question WHERE state = 'dead'")]
        for key in keys:
            self._move(key, "pending", "")
        self.commit()
        return len(keys)

    def commit(self) -> None:
        """Returns when all that was written is on the disk.

        Raises:
            StorageError: it is not. From then on this ledger writes nothing.
        """
        self.file.commit()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _end(self, attempt: int, state: str, reason: str) -> tuple[str, int]:
        """Move a try to another state; its question's key and which asking it was."""
        query = "SELECT key, ask, state, reason FROM attempt WHERE id = ?"
        key, ask, *before = self.file.read(query, attempt).fetchone()
        self.file.write("UPDATE attempt SET state = ?, reason = ? WHERE id = ?", state, reason, attempt)
        self._attempts[before[0], before[1]] -= 1
        self._attempts[state, reason] += 1
        return str(key), int(ask)

    def _move(self, key: str, state: str, reason: str | None = None, **columns: int) -> None:
        """Move a question to another state; its reason stays, unless given."""
        kind, was, why = self.file.read("SELECT kind, state, reason FROM question WHERE key = ?", key).fetchone()
        values = {"state": state, "reason": why if reason is None else reason, **columns}
        names = ", ".join(f"{name} = ?" for name in values)
        self.file.write(f"UPDATE question SET {names} WHERE key = ?", *values.values(), key)
        self._questions[kind, was, why] -= 1
        self._questions[kind, state, str(values["reason"])] += 1

    def _rest(self, key: str) -> None:
        """A question whose try came to nothing is as before it."""
        entry = self.find(key)
        assert entry is not None
        self._move(key, "rejected" if entry.asks else "pending")

    def _load(self) -> None:
        """Counts and sums, from then on kept beside the file."""
        kinds = self.file.read("SELECT kind, state, reason, COUNT(*) FROM question GROUP BY kind, state, reason")
        self._questions: Counter[tuple[str, str, str]] = Counter({row[:3]: row[3] for row in kinds})
        ends = self.file.read("SELECT state, reason, COUNT(*) FROM attempt GROUP BY state, reason")
        self._attempts: Counter[tuple[str, str]] = Counter({row[:2]: row[2] for row in ends})
        query = "SELECT TOTAL(prompt_tokens), TOTAL(completion_tokens), SUM(picos) FROM attempt"
        prompt, completion, picos = self.file.read(query).fetchone()
        self._spent = Cost(int(prompt), int(completion), picos or 0)

    def _recover(self) -> None:
        """Settle what a killed process left: what was reserved was not sent; what was sent is lost."""
        query = "SELECT id, state FROM attempt WHERE state IN ('reserved', 'sent')"
        for attempt, state in self.file.read(query).fetchall():
            if state == "reserved":
                self.release(attempt)
            else:
                self.lost += 1
                key, _ = self._end(attempt, "lost", "")
                self._rest(key)
        self.commit()
