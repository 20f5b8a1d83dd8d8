"""SEED-Bench: multiple choice about pictures and videos, in twelve types (AILab-CVC/SEED-Bench; LLaVA's
convert_seed_for_submission.py).

The official method ranks the four options by their likelihood; what was generated is compared with the right letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.leanings import by_position
from sightline.evaluate.result_files import Row, read_json, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads SEED-Bench.json: `{questions: [...], question_type: {name: id}}`. Id 49914 is in it twice."""
    found = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
            raise refuse(path, "expected SEED-Bench.json: {questions: [...], question_type: {name: id}}")
        names = {number: name for name, number in content.get("question_type", {}).items()}
        for entry in content["questions"]:
            if not {"question_id", "question"} <= set(entry):
                raise refuse(path, "a question has no question_id")
            found.append(_question(entry, names))
    return found


def _question(entry: Mapping[str, Any], names: Mapping[int, str]) -> Question:
    number = entry.get("question_type_id")
    return Question(
        id=str(entry["question_id"]),
        image=str(entry.get("data_id", "")),
        text=entry["question"],
        options=tuple(str(entry[key]) for key in ("choice_a", "choice_b", "choice_c", "choice_d") if key in entry),
        answers=(entry["answer"],) if entry.get("answer") else (),
        group=names.get(number, "") if isinstance(number, int) else "",
        more={"data_type": entry.get("data_type", ""), "type": number},
    )


def lmms_letter(text: str) -> str:
    """The first letter, in upper case."""
    return text.strip()[:1].upper()


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Percent of letters that are the right one, literally: total, image, video, and by type.

    LLaVA's script looks questions up by whole numbers: under `llava15` a row whose id is a text of digits is not found.
    """
    values: dict[str, float] = {}
    splits: dict[str, list[float]] = {"total": [], "image": [], "video": []}
    types: dict[tuple[int, str], list[float]] = {}
    texts = other = 0
    chosen: list[tuple[str, str | None]] = []
    for position, (question, row) in enumerate(zip(asked, rows, strict=True)):
        lost = protocol == "llava15" and row is not None and is_text_number(row)
        texts += lost
        given = "" if row is None or lost else lmms_letter(row.text) if protocol == "lmms" else row.text
        other += row is not None and not lost and given not in ("A", "B", "C", "D")
        value = float(given == question.answers[0])
        chosen.append((question.answers[0], given))
        values[f"{question.id}#{position}" if question.id in values else question.id] = value
        for name in ("total", question.more["data_type"]):
            splits.setdefault(name, []).append(value)
        if question.group:
            types.setdefault((question.more["type"], question.group), []).append(value)
    figures: dict[str, Any] = {name: percent(mean(found)) for name, found in splits.items()}
    figures["per_type"] = {name: percent(mean(types[number, name])) for number, name in sorted(types)}
    note = f"{texts:,} answers have their id as text: LLaVA's script, which looks for numbers, counts them wrong"
    return Scored(figures, values, other, (note,) if texts else (), by_position(chosen))


def is_text_number(row: Row) -> bool:
    """Whether a row has a numeric id as text. `{id: answer}` is not LLaVA's format, so nothing is known of its ids."""
    number = row.fields.get("question_id")
    return isinstance(number, str) and number.isdigit()


SEED = AnswerTask(
    name="seedbench",
    title="SEED-Bench",
    metric="total",
    protocols={
        "official": Rules("the generated letter literally; a missing answer is wrong", missing="wrong"),
        "llava15": Rules("as official, but ids must be numbers", missing="wrong"),
        "lmms": Rules("the first letter, in either case"),
    },
    questions=questions,
    pair=by_id("question_id"),
    score=score,
)
