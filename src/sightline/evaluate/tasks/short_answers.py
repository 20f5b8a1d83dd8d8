"""Short answers of one's own: JSON lines of questions, each with its answer and a category, scored by exact match."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluate.result_files import Row
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

_FIELDS = ("image", "text", "answer", "category")


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads JSON lines with `question_id`, `image`, `text`, `answer`, `category`, and perhaps `unseen`, which marks a
    composition that training never showed.

    Raises:
        DataError: a file is missing, or a line is not such a question; the message names the line.
    """
    found = [question for path in paths for question in _read(path)]
    seen: set[str] = set()
    for question in found:
        if question.id in seen:
            raise DataError(f"{paths[0]}: question_id {question.id} is there twice", reason="question_invalid")
        seen.add(question.id)
    return found


def _read(path: Path) -> list[Question]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a JSONL file of questions", reason="file_missing")
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(_question(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"{path}:{number}: expected an object with question_id, image, text, answer, category; {error}",
                reason="question_invalid",
            ) from error
    if not found:
        raise DataError(f"{path}: no questions; give a file with at least one", reason="no_samples")
    return found


def _question(fields: dict[str, Any]) -> Question:
    """One line's question; an id may be a number. `KeyError` or `TypeError` when it is none."""
    for key in _FIELDS:
        if not isinstance(fields[key], str):
            raise TypeError(f"{key} is {fields[key]!r}, not a text")
    unknown = fields.keys() - {"question_id", "unseen", *_FIELDS}
    if unknown:
        raise KeyError(f"{min(unknown)} is not one of its fields")
    return Question(
        id=str(fields["question_id"]),
        image=fields["image"],
        text=fields["text"],
        answers=(fields["answer"],),
        group=fields["category"],
        more={"unseen": bool(fields.get("unseen", False))},
    )


def normalise(answer: str) -> str:
    """Lower case, no article in front, no punctuation at the ends, single spaces: `The red star.` -> `red star`."""
    words = re.sub(r"\s+", " ", answer.lower()).strip(" .,!?\"'")
    return re.sub(r"^(a|an|the) ", "", words)


def is_right(given: str, answer: str) -> bool:
    """Whether both are the same after `normalise`."""
    return normalise(given) == normalise(answer)


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Percent: overall, and by category; every question counts the same."""
    values: dict[str, float] = {}
    kinds: dict[str, list[float]] = {}
    for question, row in zip(asked, rows, strict=True):
        assert row is not None
        values[question.id] = float(is_right(row.text, question.answers[0]))
        kinds.setdefault(question.group, []).append(values[question.id])
    figures = {
        "accuracy": percent(mean(list(values.values()))),
        "category": {kind: percent(mean(kinds[kind])) for kind in sorted(kinds)},
    }
    return Scored(figures, values)


SHORT_ANSWERS = AnswerTask(
    name="short-answers",
    title="short answers",
    metric="accuracy",
    protocols={"official": Rules("equality without case, articles in front and punctuation at the ends")},
    questions=questions,
    pair=by_id("question_id"),
    score=score,
)
