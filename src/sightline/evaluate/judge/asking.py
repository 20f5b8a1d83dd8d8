"""Putting questions to a judge: one ledger and one budget, whatever the benchmark.

Comes in: questions, and what makes a reply usable. Goes out: what the judge said to each, whenever it was asked: a run
that was killed goes on where it stopped, and no reply is paid for twice. Knows no benchmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from sightline.ask.budget import Budget
from sightline.ask.judging import Judge
from sightline.ask.ledger import Ledger
from sightline.ask.limits import Clock, Limits
from sightline.ask.outcome import Snapshot
from sightline.ask.question import Question, Reply
from sightline.ask.reply import Unusable, read_reply
from sightline.ask.run import ask_all
from sightline.ask.teacher import Teacher
from sightline.evaluate.result_files import read_text, refuse


class Heard(NamedTuple):
    """What a judge said: the text of its last reply, None where there is none, and why it is of no use, or ""."""

    text: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Who is asked, and under which limits.

    Attributes:
        model: the judge's name on its server; it stands in every file that is written.
        asks: how often one question may be asked in all while its replies are unusable.
    """

    model: str
    teacher: Teacher
    ledger: Ledger
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    asks: int = 1
    progress: Callable[[Snapshot], None] | None = None
    clock: Clock | None = None

    def ask(self, questions: Sequence[Question], judge: Judge) -> dict[str, Heard]:
        """What was said to each question, by its key. Asks only what the ledger does not answer yet.

        Raises:
            TeacherError, BudgetError, StorageError: see `ask_all`; all replies so far are kept.
        """
        ask_all(
            questions,
            teacher=self.teacher,
            ledger=self.ledger,
            judge=judge,
            limits=self.limits,
            budget=self.budget,
            asks=self.asks,
            progress=self.progress,
            clock=self.clock,
        )
        return {question.key: self._heard(question) for question in questions}

    def _heard(self, question: Question) -> Heard:
        entry = self.ledger.find(question.key)
        assert entry is not None
        if entry.state not in ("accepted", "rejected") or entry.attempt is None:
            return Heard(None, entry.reason or entry.state)
        try:
            return Heard(read_reply(self.ledger.raw(entry.attempt), model=question.model).text, entry.reason)
        except Unusable as error:
            return Heard(None, error.reason)


def anything(question: Question, reply: Reply) -> None:
    """Takes every reply."""


class Prompt(NamedTuple):
    """A prompt file's text and where it is from: `sightline`, or the file that the user named."""

    text: str
    source: str

    @property
    def version(self) -> str:
        """Stands for the wording: grades given under two of them are not to be mixed. 12 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


def prompt_file(name: str, own: Path | None) -> Prompt:
    """The prompt of that name that comes with the package, or the user's own file in its place."""
    if own is not None:
        return Prompt(read_text(own), own.name)
    return Prompt((files(__package__) / "prompts" / name).read_text(encoding="utf-8"), "sightline")


def official_file(data: Path, name: str) -> Path:
    """The official file of that name in a folder, or the one below it.

    Raises:
        DataError: there is none, or there are two.
    """
    found = [data / name] if (data / name).is_file() else sorted(data.rglob(name))
    if len(found) != 1:
        said = f"two of that name below it: {found[0]}, {found[1]}" if found else "not in it, nor below"
        raise refuse(data / name, f"{said}; --data names the folder of the official files", reason="file_missing")
    return found[0]
