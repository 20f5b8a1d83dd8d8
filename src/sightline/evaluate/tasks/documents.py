"""OCR-VQA, ChartQA and DocVQA: short answers read off covers, charts and pages."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.edit_distance import levenshtein
from sightline.evaluate.result_files import ID, Row, read_json, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id, by_key

TOLERANCE = 0.05
"""ChartQA takes numbers this much off, relative to the right one (Masry et al. 2022, section 5.1)."""
THRESHOLD = 0.5
"""DocVQA gives nothing for an answer less alike than this (Biten et al. 2019)."""
OCRVQA_TEST = 3


def same(given: str, answers: Sequence[str]) -> float:
    """Equality without case and outer blanks, as VLMEvalKit has it: OCR-VQA has no official code."""
    return float(any(given.strip().lower() == answer.strip().lower() for answer in answers))


def relaxed(given: str, answers: Sequence[str]) -> float:
    """ChartQA: numbers within a twentieth, percent signs read as hundredths; other answers equal but for case.

    A right answer of 0 has no such range: the texts must be equal.
    """
    return float(any(_relaxed(given, answer) for answer in answers))


def _relaxed(given: str, answer: str) -> bool:
    value, target = _number(given), _number(answer)
    if value is not None and target:
        return abs(value - target) / abs(target) <= TOLERANCE
    return given.lower() == answer.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def anls(given: str, answers: Sequence[str]) -> float:
    """DocVQA: 1 - the least distance over length, of lower-cased answers with single blanks; 0 below a half.

    The length is the longer one's before that, as in the official evaluator.
    """
    distances = []
    for answer in answers:
        length = max(len(answer.upper()), len(given.upper()))
        distances.append(levenshtein(_single(answer), _single(given)) / length if length else 0.0)
    found = 1 - min(distances)
    return found if found >= THRESHOLD else 0.0


def _single(text: str) -> str:
    return " ".join(text.strip().lower().split())


def ocrvqa_questions(paths: Sequence[Path]) -> list[Question]:
    """Reads OCR-VQA's dataset.json, `id -> {imageURL, questions, answers, split}`; the questions of the test split.

    A question's id is the book's and its number from 0: `1421402084_0`.
    """
    found = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict) or not all(
            isinstance(book, dict) and {"questions", "answers"} <= set(book) for book in content.values()
        ):
            raise refuse(path, "expected OCR-VQA's dataset.json: id -> {imageURL, questions, answers, split}")
        for key, book in content.items():
            if book.get("split", OCRVQA_TEST) != OCRVQA_TEST:
                continue
            for number, (text, answer) in enumerate(zip(book["questions"], book["answers"], strict=True)):
                found.append(Question(id=f"{key}_{number}", image=key, text=text, answers=(str(answer),)))
    return found


def chartqa_questions(paths: Sequence[Path]) -> list[Question]:
    """Reads ChartQA's test_human.json and test_augmented.json: lists of `{imgname, query, label}`."""
    found = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, list) or not all(
            isinstance(entry, dict) and {"imgname", "query", "label"} <= set(entry) for entry in content
        ):
            raise refuse(path, "expected ChartQA's test_human.json or test_augmented.json: [{imgname, query, label}]")
        kind = "human" if "human" in path.stem else "augmented" if "augmented" in path.stem else path.stem
        found += [
            Question(
                id=f"{kind}/{number}",
                image=entry["imgname"],
                text=entry["query"],
                answers=(str(entry["label"]),),
                group=kind,
            )
            for number, entry in enumerate(content)
        ]
    return found


def docvqa_questions(paths: Sequence[Path]) -> list[Question]:
    """Reads DocVQA's val_v1.0.json: `{data: [{questionId, question, image, answers}]}`."""
    found = []
    for path in paths:
        content = read_json(path)
        entries = content.get("data") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) and "questionId" in e for e in entries):
            raise refuse(path, "expected DocVQA's val_v1.0.json: {data: [{questionId, question, image, answers}]}")
        found += [
            Question(
                id=str(entry["questionId"]),
                image=str(entry.get("image", "")),
                text=str(entry.get("question", "")),
                answers=tuple(entry.get("answers") or ()),
            )
            for entry in entries
        ]
    return found


def _score(measure: Callable[[str, Sequence[str]], float], name: str) -> Callable[..., Scored]:
    def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
        """Percent over all questions, and over each group of them."""
        values: dict[str, float] = {}
        groups: dict[str, list[float]] = {}
        for question, row in zip(asked, rows, strict=True):
            assert row is not None
            values[question.id] = measure(row.text, question.answers)
            if question.group:
                groups.setdefault(question.group, []).append(values[question.id])
        figures: dict[str, Any] = {name: percent(mean(list(values.values())))}
        return Scored(figures | {group: percent(mean(groups[group])) for group in sorted(groups)}, values)

    return score


def _chart_keys(row: Row) -> list[Hashable]:
    """The chart and what was asked of it, or `human/17`: the question's number from 0 in its file."""
    fields = row.fields
    if {"imgname", "query"} <= set(fields):
        return [(str(fields["imgname"]), str(fields["query"]))]
    return [str(fields[name]) for name in ("question_id", ID) if name in fields]


def _chart_pair(questions: Sequence[Question], rows: Sequence[Row]) -> Any:
    named = any("imgname" in row.fields for row in rows)
    return by_key(lambda q: (q.image, q.text) if named else q.id, _chart_keys)(questions, rows)


OCRVQA = AnswerTask(
    name="ocrvqa",
    title="OCR-VQA",
    metric="accuracy",
    protocols={"official": Rules("equality without case and outer blanks; there is no official code")},
    questions=ocrvqa_questions,
    pair=by_id("question_id"),
    score=_score(same, "accuracy"),
)
CHARTQA = AnswerTask(
    name="chartqa",
    title="ChartQA",
    metric="relaxed_accuracy",
    protocols={"official": Rules("relaxed accuracy: numbers within 5%"), "lmms": Rules("as official")},
    questions=chartqa_questions,
    pair=_chart_pair,
    score=_score(relaxed, "relaxed_accuracy"),
)
DOCVQA = AnswerTask(
    name="docvqa",
    title="DocVQA",
    metric="anls",
    protocols={"official": Rules("ANLS with threshold 0.5"), "lmms": Rules("as official")},
    questions=docvqa_questions,
    pair=by_id("questionId", "question_id"),
    score=_score(anls, "anls"),
)
