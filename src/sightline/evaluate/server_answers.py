"""Answers of a model behind an OpenAI-compatible address, asked as a checkpoint is.

Comes in: an address, the model's name there, prompts with their pictures. Goes out: answers by number. Every reply is
paid for once: it is stored in a ledger before it is looked at, and a run that was killed goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.ask.budget import Budget
from sightline.ask.ledger import Ledger
from sightline.ask.limits import Limits
from sightline.ask.openai_teacher import OpenAITeacher
from sightline.ask.question import Message, Picture, Question
from sightline.ask.run import ask_all
from sightline.errors import ConfigError
from sightline.evaluate.answering import Asked

PREFIX = "openai:"
LEDGER = "ledger.sqlite"
"""In the folder of a run: one for all its benchmarks, so that a budget holds over them together."""
NO_ANSWER = frozenset(("content_filter", "refusal"))
"""Why a reply holds no answer; the question counts as answered with nothing. What was cut or empty counts as it is."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a model is asked."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 16
    budget: Budget = field(default_factory=Budget)

    @classmethod
    def of(cls, address: str, *, model: str | None, key_variable: str, budget: Budget) -> Server:
        """
        Args:
            address: `openai:URL`.

        Raises:
            ConfigError: it is none, or the model's name is not given.
        """
        if not address.startswith(PREFIX):
            raise ConfigError(f"--model {address}: expected {PREFIX}URL, such as {PREFIX}http://127.0.0.1:8000/v1")
        if not model:
            raise ConfigError(f"--model {address}: needs --served NAME, the model's name at that address")
        return cls(url=address.removeprefix(PREFIX), model=model, key_variable=key_variable, budget=budget)


def answers(
    server: Server,
    asked: Sequence[Asked],
    *,
    kind: str,
    folder: Path,
    ledger: Path,
    max_new_tokens: int,
    say: Callable[[str], None] = lambda line: None,
) -> dict[int, str]:
    """Asks what the ledger does not answer yet; questions that the server never answered are left out.

    Args:
        kind: the benchmark.
        folder: for pictures that are not files of their own.
        ledger: the file; what it spent before counts towards the budget.

    Raises:
        TeacherError: the server cannot be asked; what was answered is kept.
        BudgetError: what is left does not suffice; likewise.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    teacher = OpenAITeacher(base_url=server.url, key_variable=server.key_variable)
    questions = {one.number: _question(server, one, kind, folder, max_new_tokens) for one in asked}
    with Ledger(ledger) as book:
        summary = ask_all(
            list(questions.values()),
            teacher=teacher,
            ledger=book,
            judge=lambda question, reply: None,
            limits=Limits(concurrency=server.concurrency, stop_share=1.0),
            budget=server.budget,
        )
        for warning in summary.warnings:
            say(warning)
        found = {number: _text(book, question) for number, question in questions.items()}
    return {number: text for number, text in found.items() if text is not None}


def _question(server: Server, one: Asked, kind: str, folder: Path, max_new_tokens: int) -> Question:
    images = tuple(_picture(picture, folder / "pictures") for picture in one.pictures)
    return Question.of(
        [Message("user", one.prompt, images)],
        model=server.model,
        kind=kind,
        max_tokens=max_new_tokens,
        subject=str(one.number),
    )


def _picture(picture: Path | bytes, folder: Path) -> Picture:
    if isinstance(picture, Path):
        return Picture.of(picture)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(picture).hexdigest()
    if not path.exists():
        path.write_bytes(picture)
    return Picture.of(path)


def _text(ledger: Ledger, question: Question) -> str | None:
    """The answer, of whatever length; None where no reply came."""
    entry = ledger.find(question.key)
    if entry is None or entry.attempt is None or entry.state not in ("accepted", "rejected"):
        return None
    if entry.reason in NO_ANSWER:
        return ""
    choices = json.loads(ledger.raw(entry.attempt)).get("choices") or [{}]
    text = (choices[0].get("message") or {}).get("content")
    return text.strip() if isinstance(text, str) else ""
