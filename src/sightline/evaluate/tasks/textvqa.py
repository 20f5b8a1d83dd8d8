"""TextVQA: short answers about text in pictures, by M4C's evaluator (facebookresearch/mmf; LLaVA's m4c_evaluator.py).

The accuracy is VQA's, with N2 always on both sides. Beside it stand the two other figures of M4C's evaluator, which
were made for ST-VQA: exact match with any of the answers, and ANLS.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path

from sightline.evaluate.edit_distance import levenshtein
from sightline.evaluate.normalise import n2
from sightline.evaluate.result_files import ID, Row, read_json, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Paired, Question, Rules, Scored, by_key
from sightline.evaluate.tasks.vqa import n2_accuracy

_OLD_PROMPT = re.compile(r"Question: (.*?) Short answer:", re.DOTALL)


def asked_in(prompt: str) -> str | None:
    """The question in one of the three prompts that LLaVA's eval_textvqa.py knows, in lower case; None for others."""
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        found = _OLD_PROMPT.search(prompt)
        return found[1].lower() if found else None
    if "Reference OCR token: " in prompt and len(lines) == 3:
        return lines[1 if prompt.startswith("Reference OCR token:") else 0].lower()
    return lines[0].lower() if len(lines) == 2 else None


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads TextVQA_0.5.1_*.json: `{data: [{question_id, image_id, question, answers[10]}]}`."""
    found = []
    for path in paths:
        content = read_json(path)
        entries = content.get("data") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all({"question_id", "image_id", "question"} <= set(e) for e in entries):
            raise refuse(path, "expected TextVQA_0.5.1_val.json: {data: [{question_id, image_id, question, answers}]}")
        found += [
            Question(
                id=str(entry["question_id"]),
                image=str(entry["image_id"]),
                text=entry["question"],
                answers=tuple(entry.get("answers", ())),
            )
            for entry in entries
        ]
    return found


def _place(question: Question) -> tuple[str, str]:
    return question.image, question.text.lower()


def _row_place(row: Row) -> list[Hashable]:
    """LLaVA's `question_id` is the picture's id; which question it was, stands in the prompt."""
    asked = asked_in(row.fields["prompt"]) if isinstance(row.fields.get("prompt"), str) else None
    return [] if asked is None else [(str(row.fields.get("question_id")), asked)]


def pair(questions: Sequence[Question], rows: Sequence[Row]) -> Paired:
    """By the official id; rows of LLaVA's by picture and question.

    Two questions with the same words about one picture share such rows in turn.
    """
    if not any("prompt" in row.fields for row in rows):
        names = ("question_id", "questionId", ID)
        return by_key(lambda q: q.id, lambda row: [str(row.fields[n]) for n in names if n in row.fields])(
            questions, rows
        )
    waiting: dict[Hashable, list[int]] = {}
    for position, question in enumerate(questions):
        waiting.setdefault(_place(question), []).append(position)
    found: dict[int, Row] = {}
    extra, doubled = [], []
    for row in rows:
        places = next((waiting[key] for key in _row_place(row) if key in waiting), None)
        if places is None:
            extra.append(row)
            continue
        position = next((place for place in places if place not in found), places[-1])
        if position in found:
            doubled.append(row)
        found[position] = row
    return Paired([found.get(position) for position in range(len(questions))], extra, doubled)


def anls(given: str, answers: Sequence[str]) -> float:
    """M4C's: the best of 1 - distance / longer length over the answers, in lower case; below a half it is 0."""
    given = given.lower().strip()
    best = 0.0
    for answer in answers:
        answer = answer.lower().strip()
        longer = max(len(given), len(answer))
        best = max(best, 1 - levenshtein(given, answer) / longer if longer else 1.0)
    return best if best >= 0.5 else 0.0


def score(questions: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Percent: accuracy, and the share and similarity that M4C's ST-VQA evaluators give."""
    last = {_place(question): question for question in questions}
    values: dict[str, float] = {}
    exact, similar = [], []
    for question, row in zip(questions, rows, strict=True):
        assert row is not None
        answers = (last[_place(question)] if protocol == "llava15" else question).answers
        values[question.id] = n2_accuracy(row.text, answers)
        exact.append(float(n2(row.text) in [n2(answer) for answer in answers]))
        similar.append(anls(row.text, answers))
    figures = {
        "accuracy": percent(mean(list(values.values()))),
        "stvqa_accuracy": percent(mean(exact)),
        "stvqa_anls": percent(mean(similar)),
    }
    return Scored(figures, values)


TEXTVQA = AnswerTask(
    name="textvqa",
    title="TextVQA",
    metric="accuracy",
    protocols={
        "official": Rules("M4C: N2 on both sides"),
        "llava15": Rules("M4C; of two questions with the same words about a picture the last one's answers count"),
        "lmms": Rules(
            "N2 on both sides; by default lmms-eval asks without OCR tokens, which costs ten points and more"
        ),
    },
    questions=questions,
    pair=pair,
    score=score,
)
