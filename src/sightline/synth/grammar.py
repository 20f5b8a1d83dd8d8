"""From a teacher's reply to questions and answers, and back: pure functions of text.

Comes in: a reply. Goes out: pairs, or a `GrammarError` that says what is wrong. Knows neither kinds nor contexts.

Forms:

- `pairs`: blocks `Question:` and `Answer:`, one under the other, between lines of `===` (the original's form);
- `answer`: the whole reply is one answer; its question was known before;
- a JSON list of answers, from a teacher that was only asked and wrote no questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Form = Literal["pairs", "answer"]

_RULE = re.compile(r"^[ \t]*={3,}[ \t]*$", re.MULTILINE)
_HEAD = re.compile(r"\s*\**(question|answer)\**(?:[ \t]*\d+)?[ \t]*:\**", re.IGNORECASE)


class Pair(NamedTuple):
    """A question with its answer."""

    question: str
    answer: str


class GrammarError(ValueError):
    """A reply is not in the form that was asked for."""


def parse_pairs(reply: str) -> list[Pair]:
    """The pairs of a reply, in its order. A cut reply, a head without words, two questions in a row: all refused.

    Raises:
        GrammarError: says at which block.
    """
    blocks = [block for block in _RULE.split(reply.replace("\r\n", "\n")) if block.strip()]
    texts: list[str] = []
    for number, block in enumerate(blocks, start=1):
        expected = ("question", "answer")[(number - 1) % 2]
        head = _HEAD.match(block)
        if head is None or head[1].lower() != expected:
            raise GrammarError(f"block {number} does not start with {expected.capitalize()}:")
        text = block[head.end() :].strip()
        if _HEAD.search(text) and any(_HEAD.match(line) for line in text.splitlines()):
            raise GrammarError(f"block {number} holds another one; === is missing")
        if not text and expected == "question":
            raise GrammarError(f"block {number}: the question is empty")
        texts.append(text)
    if not texts:
        raise GrammarError("no blocks")
    if len(texts) % 2:
        raise GrammarError("the last question has no answer")
    return [Pair(question, answer) for question, answer in zip(texts[::2], texts[1::2], strict=True)]


def write_pairs(pairs: Sequence[Pair]) -> str:
    """The text of which `parse_pairs` makes the same pairs."""
    return "\n===\n".join(f"Question:\n{pair.question}\n===\nAnswer:\n{pair.answer}" for pair in pairs)


def parse_answers(reply: str) -> list[str]:
    """The answers of an interview: a JSON list of texts, one for each question that was put.

    Raises:
        GrammarError: it is no such list.
    """
    try:
        answers = json.loads(reply)
    except ValueError as error:
        raise GrammarError("not JSON") from error
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise GrammarError("not a list of texts")
    return [answer.strip() for answer in answers]
