"""One benchmark, asked: from what there is to ask to the file of answers.

Comes in: an exam, somebody who answers, a folder. Goes out: `answers.jsonl` in LLaVA's format and in the questions'
order, the same bytes whether one process wrote it, several did, or some were killed. Scores nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sightline.atomic import new_file
from sightline.errors import ConfigError
from sightline.evaluate import answering, server_answers
from sightline.evaluate.answering import Asked, check_pictures
from sightline.evaluate.blind import blinded
from sightline.evaluate.exam import Exam
from sightline.evaluate.journal import Journal, claim, given, locked
from sightline.evaluate.server_answers import Server

ANSWERS = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class Shard:
    """The how-manieth of how many, from 1: each has consecutive questions, as LLaVA's chunks have."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/8`.

        Raises:
            ConfigError: it is not of this form, or out of range.
        """
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
            raise ConfigError(f"--shard {text}: expected I/N with I from 1 to N, such as 1/4")
        return cls(int(index), int(count))

    def of(self, total: int) -> range:
        """Its part of so many questions; the last shards of very few questions have none."""
        size = math.ceil(total / self.count)
        return range(min(total, size * (self.index - 1)), min(total, size * self.index))

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


WHOLE = Shard()


class Answerer(Protocol):
    """Somebody who answers. `identity` is all that decides the answers, in words and digests."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    def answers(
        self, asked: Sequence[Asked], *, task: str, folder: Path, max_new_tokens: int
    ) -> Iterable[Mapping[int, str]]:
        """Answers by number, in groups as they come."""


@dataclass
class Checkpoint:
    """A model in this process, loaded when it is first asked. `load` returns model and processor."""

    name: str
    identity: Mapping[str, Any]
    load: Callable[[], tuple[Any, Any]]
    batch: int
    say: Callable[[str], None] = lambda line: None
    _loaded: tuple[Any, Any] | None = None

    def answers(
        self, asked: Sequence[Asked], *, task: str, folder: Path, max_new_tokens: int
    ) -> Iterable[Mapping[int, str]]:
        self._loaded = self._loaded or self.load()
        say = partial(self._say_of, task)
        return answering.answers(*self._loaded, asked, max_new_tokens=max_new_tokens, batch=self.batch, say=say)

    def _say_of(self, task: str, line: str) -> None:
        self.say(f"{task}: {line}")


@dataclass
class Remote:
    """A model behind an address. `ledger` is the file that all its benchmarks are paid from."""

    server: Server
    ledger: Path
    say: Callable[[str], None]

    @property
    def name(self) -> str:
        return self.server.model

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"url": self.server.url, "model": self.server.model}

    def answers(
        self, asked: Sequence[Asked], *, task: str, folder: Path, max_new_tokens: int
    ) -> Iterable[Mapping[int, str]]:
        yield server_answers.answers(
            self.server,
            asked,
            kind=task,
            folder=folder,
            ledger=self.ledger,
            max_new_tokens=max_new_tokens,
            say=self.say,
        )


def ask_exam(
    exam: Exam,
    answerer: Answerer,
    folder: Path,
    *,
    blind: str | None = None,
    limit: int | None = None,
    shard: Shard = WHOLE,
    max_new_tokens: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Asks what was not answered yet.

    Args:
        folder: of this exam; what is there of an earlier run of the same making is kept.
        limit: only the first so many questions.

    Returns:
        `answers.jsonl`; None where other shards have not answered yet.

    Raises:
        ConfigError: the answers that are there were made otherwise, or another process is making them.
        DataError: a picture cannot be used; found before anything is asked.
    """
    tokens = max_new_tokens or exam.max_new_tokens
    asked = blinded(exam.asked, blind) if blind else exam.asked
    claim(folder, making(exam, answerer, blind=blind, max_new_tokens=tokens))
    total = min(limit or len(asked), len(asked))
    label = f"{exam.task}{f' ({blind})' if blind else ''}"
    with Journal(folder, name=str(shard)) as journal:
        done = given(folder)
        mine = [asked[at] for at in shard.of(total) if at not in done]
        if mine:
            check_pictures(mine)
            answered = len(shard.of(total)) - len(mine)
            say(f"{label}: {answered:,} of {len(shard.of(total)):,} questions are answered")
            for group in answerer.answers(mine, task=exam.task, folder=folder, max_new_tokens=tokens):
                journal.add(group)
                answered += len(group)
                say(f"{label}: answered {answered:,} of {len(shard.of(total)):,} questions")
    with locked(folder):
        return _write_answers(exam, answerer, folder, total, whole=shard.count == 1)


def making(exam: Exam, answerer: Answerer, *, blind: str | None, max_new_tokens: int) -> dict[str, Any]:
    """All that decides an answer: the model, the prompts with their order, the pictures shown, the answers' length."""
    digest = hashlib.sha256()
    for row, one in zip(exam.rows, exam.asked, strict=True):
        digest.update(json.dumps([row, one.prompt], ensure_ascii=True).encode())
        for picture in one.pictures or (b"None",):
            content = picture if isinstance(picture, bytes) else picture.name.encode()
            digest.update(hashlib.sha256(content).digest())
    return {
        "task": exam.task,
        **answerer.identity,
        "prompts": digest.hexdigest(),
        "pictures": blind or "own",
        "max_new_tokens": max_new_tokens,
    }


def _write_answers(exam: Exam, answerer: Answerer, folder: Path, total: int, *, whole: bool) -> Path | None:
    """Writes the answers to the first `total` questions, once all of them are there.

    Args:
        whole: no other process is expected to answer: what has no answer now (a server gave none) is left out.
    """
    said = given(folder)
    if not whole and any(at not in said for at in range(total)):
        return None
    path = folder / ANSWERS
    write_rows(path, exam, {at: said[at] for at in range(total) if at in said}, name=answerer.name)
    return path


def write_rows(path: Path, exam: Exam, said: Mapping[int, str], *, name: str) -> None:
    """Writes answers in LLaVA's format, in the questions' order, whole or not at all.

    Args:
        said: by the question's place; one that has no answer has no line.
        name: whose answers they are.
    """
    with new_file(path) as file:
        for at, row in enumerate(exam.rows):
            if at not in said:
                continue
            line = {
                "question_id": row["question_id"],
                "prompt": row["prompt"],
                "text": said[at],
                "answer_id": hashlib.sha256(f"{name}/{exam.task}/{at}".encode()).hexdigest()[:22],
                "model_id": name,
                "metadata": {},
            }
            file.write((json.dumps(line | row, ensure_ascii=False) + "\n").encode())
