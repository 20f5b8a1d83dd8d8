"""MMMU: college-level multiple choice and open questions in 30 subjects (MMMU-Benchmark/MMMU, eval_utils.py).

Where the official parser draws an option at random, because it finds none, the answer is unparsable here, and wrong.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.result_files import Row, read_json, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.mmmu_table import mmmu_rows
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

DOMAINS = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine Pharmacy "
    "Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics Energy_and_Power "
    "Materials Mechanical_Engineering",
}
CHOICE = "multiple-choice"
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)

Value = str | float


def choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letter that the official parser finds: in parentheses, before a blank, before a period; in an answer of more
    than five words, an option's text. Of several the one that stands last. None where the original draws at random."""
    for mark in ",.!?;:'":
        response = response.strip(mark)
    response = f" {response} "
    for form, searched in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [letter for letter in options if form.format(letter) in response]
        if found:
            return max(found, key=lambda letter: response.rfind(searched.format(letter)))
    if len(response.split()) > 5:
        lower = response.lower()
        found = [letter for letter, text in options.items() if text.lower() in lower]
        if found:
            return max(found, key=lambda letter: lower.rfind(options[letter].lower()))
    return None


def normalised(text: str) -> list[Value]:
    """A number, to two places; else the text in lower case, and one letter alone with a blank before or behind it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_answers(response: str) -> set[Value]:
    """What an open answer may mean: the tails of its sentences behind words like `is`, and the numbers in them."""
    key = _key_responses(response)
    texts = key + [number for text in key for pattern in _NUMBERS for number in pattern.findall(text)]
    return {value for text in texts for value in normalised(text)}


def _key_responses(response: str) -> list[str]:
    response = response.strip().strip(".").lower()
    sentences = re.split(r"\.\s(?=[A-Z])|\n", response)
    found = []
    for number, sentence in enumerate(sentences, start=1):
        indicators = (*_INDICATORS, "=") if number == len(sentences) else _INDICATORS
        tails = [sentence.split(one)[-1].strip() for one in indicators if one in sentence]
        shortest = ""
        for tail in tails:  # an empty tail is replaced by the next one, whatever its length, as in the original
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            found.append(shortest)
    return found or [response]


def open_right(response: str, answers: Sequence[str]) -> bool:
    """Whether a right answer, as text, is within one of the answers given, or, as number, equal to one."""
    right = {value for answer in answers for value in normalised(answer)}
    given = open_answers(response)
    return any(
        any(isinstance(one, str) and one in value for one in right) if isinstance(value, str) else value in right
        for value in given
    )


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads answer_dict_val.json, `id -> {question_type, ground_truth}`, or the dataset's rows (id, question, options,
    answer, question_type) as Parquet or JSON. Only the latter have the options' texts."""
    found = []
    for path in paths:
        content = mmmu_rows(path) if path.suffix == ".parquet" else read_json(path)
        rows = [{"id": key, **entry} for key, entry in content.items()] if isinstance(content, dict) else content
        if not isinstance(rows, list) or not all(
            isinstance(r, dict) and {"id", "question_type"} <= set(r) for r in rows
        ):
            raise refuse(
                path, "expected MMMU's answer_dict_val.json, or its rows with id, question_type, options, answer"
            )
        found += [_question(row, path) for row in rows]
    return found


def _question(row: Mapping[str, Any], path: Path) -> Question:
    options = row.get("options", row.get("all_choices", ()))
    if isinstance(options, str):  # as the dataset has them: the text of a list
        try:
            options = ast.literal_eval(options)
        except (ValueError, SyntaxError) as error:
            raise refuse(path, f"{row['id']}: options is no list: {options!r}") from error
    answer = row.get("ground_truth", row.get("answer", ()))
    subject = re.fullmatch(r"[^_]+_(.+?)_\d+", str(row["id"]))
    return Question(
        id=str(row["id"]),
        text=str(row.get("question", "")),
        options=tuple(str(option) for option in options),
        answers=tuple(map(str, answer))
        if isinstance(answer, list)
        else (str(answer),)
        if answer != "?" and answer
        else (),
        group=subject[1] if subject else "",
        more={"type": row["question_type"]},
    )


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Percent: overall, by domain, by subject."""
    values: dict[str, float] = {}
    subjects: dict[str, list[float]] = {}
    unparsable = 0
    for question, row in zip(asked, rows, strict=True):
        assert row is not None
        if question.more["type"] == CHOICE:
            letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(question.options) or 9]
            texts = question.options or ("\0",) * len(letters)  # without their texts only letters are found
            found = choice(row.text, dict(zip(letters, texts, strict=True)))
            unparsable += found is None
            right = found in question.answers
        else:
            right = open_right(row.text, question.answers)
        values[question.id] = float(right)
        subjects.setdefault(question.group, []).append(float(right))
    domains = {
        domain: percent(mean([value for name in names.split() for value in subjects.get(name, ())]))
        for domain, names in DOMAINS.items()
    }
    return Scored(
        {
            "accuracy": percent(mean(list(values.values()))),
            "domain": domains,
            "subject": {name: percent(mean(subjects[name])) for name in sorted(subjects)},
        },
        values,
        unparsable,
    )


MMMU = AnswerTask(
    name="mmmu",
    title="MMMU",
    metric="accuracy",
    protocols={"official": Rules("the official parser, without its random last resort"), "lmms": Rules("as official")},
    questions=questions,
    pair=by_id("id", "question_id"),
    score=score,
    answer_fields=("response", "text", "prediction", "answer"),
)
