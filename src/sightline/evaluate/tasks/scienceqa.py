"""ScienceQA: multiple choice with hints and pictures, by LLaVA's parser and the official table (tools/evaluate_acc.py).

Answers may be texts, from which a letter is parsed, or the official result file, `{"results": {id: index}}`, which
holds indices that somebody parsed before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.leanings import by_position
from sightline.evaluate.result_files import ID, Row, looks_like_table, read_json, read_rows, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

LETTERS = "ABCDE"
FAILED = -1
RESULTS = "results"
_ANSWER_IS = re.compile(r"The answer is ([A-Z]).")
"""The period is any character, so a letter at the very end is not found (LLaVA's eval_science_qa.py)."""

Split = tuple[str, Callable[[Question], bool]]
SPLITS: tuple[Split, ...] = (
    ("NAT", lambda question: question.group == "natural science"),
    ("SOC", lambda question: question.group == "social science"),
    ("LAN", lambda question: question.group == "language science"),
    ("TXT", lambda question: bool(question.hint)),
    ("IMG", lambda question: bool(question.image)),
    ("NO", lambda question: not question.hint and not question.image),
    ("G1-6", lambda question: question.more["grade"] in range(1, 7)),
    ("G7-12", lambda question: question.more["grade"] in range(7, 13)),
)


def llava_choice(text: str, choices: int) -> int:
    """The index of the option that LLaVA's parser finds in an answer; -1 where it fails.

    A letter A to E alone; or one followed by `. `; or exactly one `The answer is X` with a character behind it. A
    letter beyond the options fails.
    """
    if text in tuple(LETTERS):
        letter = text
    elif len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        letter = text[0]
    else:
        found = _ANSWER_IS.findall(text)
        letter = found[0] if len(found) == 1 else "FAILED"
    return LETTERS.index(letter) if letter in tuple(LETTERS[:choices]) else FAILED


def lmms_choice(text: str, choices: int) -> int:
    """By lmms-eval: the letter alone, in either case, or a capital letter followed by a period."""
    text = text.strip()
    if len(text) == 1:
        letter = text.upper()
    else:
        letter = text[0] if len(text) >= 2 and text[0].isupper() and text[1] == "." else ""
    return LETTERS.index(letter) if letter and letter in LETTERS[:choices] else FAILED


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads problems.json, and pid_splits.json beside it; the questions of the test split."""
    problems: dict[str, Any] = {}
    split: list[str] | None = None
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict):
            raise refuse(path, "expected ScienceQA's problems.json or pid_splits.json")
        first = next(iter(content.values()), None)
        if isinstance(first, dict) and {"question", "choices"} <= set(first):
            problems.update(content)
        elif isinstance(content.get("test"), list):
            split = [str(key) for key in content["test"]]
        else:
            raise refuse(
                path, "expected ScienceQA's problems.json (id -> question, choices, answer) or pid_splits.json"
            )
    if not problems:
        raise refuse(", ".join(map(str, paths)), "no problems of ScienceQA in it; add problems.json")
    if split is None:
        split = [key for key, problem in problems.items() if problem.get("split", "test") == "test"]
    absent = next((key for key in split if key not in problems), None)
    if absent is not None:
        raise refuse(", ".join(map(str, paths)), f"problem {absent} of pid_splits.json is not in problems.json")
    return [_question(key, problems[key]) for key in split]


def _question(key: str, problem: dict[str, Any]) -> Question:
    answer = problem.get("answer")
    grade = re.search(r"\d+", str(problem.get("grade", "")))
    return Question(
        id=key,
        image=f"{problem.get('split', 'test')}/{key}/{problem['image']}" if problem.get("image") else "",
        text=problem["question"],
        hint=problem.get("hint") or "",
        options=tuple(problem["choices"]),
        answers=(LETTERS[answer],) if isinstance(answer, int) else (),
        group=problem.get("subject", ""),
        more={"grade": int(grade[0]) if grade else None},
    )


def read(paths: Sequence[Path], *, answer_fields: Sequence[str]) -> list[Row]:
    """Answers in any shape, or the official result file; a row of the latter has its index under `results`."""
    if len(paths) == 1 and not looks_like_table(paths[0]):
        content = read_json(paths[0])
        if isinstance(content, dict) and isinstance(content.get(RESULTS), dict):
            indices, texts = content[RESULTS], content.get("outputs") or {}
            bad = next((key for key, index in indices.items() if not isinstance(index, int)), None)
            if bad is not None:
                raise refuse(paths[0], f"results: {bad} is {indices[bad]!r}; expected the index of an option")
            return [
                Row(str(texts.get(key, "")), {ID: key, RESULTS: index}, f"{paths[0]}: {key}")
                for key, index in indices.items()
            ]
    return read_rows(paths, answer_fields=answer_fields)


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Percent of right answers: all, and the columns of the official table.

    Under `llava15` IMG is over the questions whose recorded prompt holds `<image>`, as LLaVA's script has it, where
    there are prompts; a missing row is then in the whole, and not in IMG.
    """
    choose = lmms_choice if protocol == "lmms" else llava_choice
    chosen = [_chosen(question, row, choose) for question, row in zip(asked, rows, strict=True)]
    values = {q.id: float(index == LETTERS.index(q.answers[0])) for q, index in zip(asked, chosen, strict=True)}
    figures: dict[str, Any] = {"accuracy": percent(mean(list(values.values())))}
    for name, belongs in SPLITS:
        figures[name] = percent(mean([values[question.id] for question in asked if belongs(question)]))
    prompted = {q.id for q, row in zip(asked, rows, strict=True) if row and "<image>" in str(row.fields.get("prompt"))}
    if protocol == "llava15" and any(row is not None and "prompt" in row.fields for row in rows):
        figures["IMG"] = percent(mean([values[question.id] for question in asked if question.id in prompted]))
    failed = sum(index == FAILED and row is not None for index, row in zip(chosen, rows, strict=True))
    letters = [None if index not in range(len(LETTERS)) else LETTERS[index] for index in chosen]
    return Scored(
        figures, values, failed, leanings=by_position(zip((q.answers[0] for q in asked), letters, strict=True))
    )


def _chosen(question: Question, row: Row | None, choose: Callable[[str, int], int]) -> int:
    if row is None:
        return FAILED
    recorded = row.fields.get(RESULTS)
    return recorded if isinstance(recorded, int) else choose(row.text, len(question.options))


SCIENCEQA = AnswerTask(
    name="scienceqa",
    title="ScienceQA",
    metric="accuracy",
    protocols={
        "official": Rules("the official table; letters by LLaVA's parser; a missing answer is wrong", missing="wrong"),
        "llava15": Rules(
            "LLaVA's parser; IMG is what was asked with <image>; a missing answer is wrong", missing="wrong"
        ),
        "lmms": Rules("the letter alone, or a capital and a period"),
    },
    questions=questions,
    pair=by_id("question_id"),
    score=score,
    read=read,
)
