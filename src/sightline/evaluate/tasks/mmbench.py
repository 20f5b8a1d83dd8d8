"""MMBench, English and Chinese: multiple choice asked again with its options rotated.

A group of rotations is right if every one of them is (CircularEval). Options are found by VLMEvalKit's rules without a
judge (multiple_choice.py and matching_util.py, e8e78f05), or by lmms-eval's. Where the original asks a judge, or draws
at random, an answer is unparsable here, and wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.leanings import by_position
from sightline.evaluate.options import REFUSAL, lmms_choice, vlmevalkit_choice
from sightline.evaluate.result_files import Row, looks_like_table, read_table, refuse
from sightline.evaluate.results import mean
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

ROTATION = 1_000_000
"""A rotation's index is that of its group plus a multiple of this."""
LETTERS = "ABCD"
ABSENT = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
).union(("NULL", "NaN", "None", "n/a", "nan", "null"))
"""What pandas reads as no value, so that VLMEvalKit has no such option."""

Choose = Callable[[str, Mapping[str, str]], str | None]


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads mmbench_*.tsv: index, question, hint, A to D, answer, category, l2-category, image in base64, ..."""
    found = []
    for path in paths:
        rows = read_table(path) if looks_like_table(path) else []
        if not rows or not {"index", "question", "A"} <= set(rows[0]):
            raise refuse(
                path, "expected a table of MMBench with index, question, A, B, C, D, such as mmbench_dev_20230712.tsv"
            )
        for number, row in enumerate(rows, start=2):
            if not row["index"].isdigit():
                raise refuse(f"{path}:{number}", f"index: expected a number, found {row['index']!r}")
            found.append(_question(row))
    return found


def _question(row: dict[str, str]) -> Question:
    index = int(row["index"])
    options = {letter: row[letter] for letter in LETTERS if row.get(letter, "") not in ABSENT}
    answer = row.get("answer", "")
    return Question(
        id=str(index),
        text=row["question"],
        hint="" if row.get("hint", "") in ABSENT else row["hint"],
        options=asked_options(row),
        answers=() if answer in ABSENT else (answer,),
        group=str(index % ROTATION),
        more={
            "options": options,
            "first": index < ROTATION,
            **{key: row.get(key, "") for key in ("category", "l2-category", "split")},
        },
    )


def asked_options(row: Mapping[str, str]) -> tuple[str, ...]:
    """The options that LLaVA asks with (model_vqa_mmbench.py): those before the first empty one, `nan` or `none`.

    An option whose text is `None` is lost with all behind it, though it may be the right one.
    """
    cells = (row.get(letter, "") for letter in LETTERS)
    return tuple(itertools.takewhile(lambda cell: cell.lower() not in ("", "nan", "none"), cells))


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Shares from 0 to 1: groups with every rotation right, whole and by category; first passes; single rows."""
    choose: Choose = lmms_choice if protocol == "lmms" else vlmevalkit_choice
    right: dict[str, bool] = {}
    firsts: dict[str, Question] = {}
    hits: list[float] = []
    first_hits: list[float] = []
    unparsable = 0
    chosen: list[tuple[str, str | None]] = []
    for question, row in zip(asked, rows, strict=True):
        assert row is not None
        found = choose(row.text, question.more["options"])
        unparsable += found is None
        chosen.append((question.answers[0], found))
        hit = (found or REFUSAL) == question.answers[0]
        hits.append(float(hit))
        right[question.group] = right.get(question.group, True) and hit
        if question.more["first"]:
            firsts[question.group] = question
            first_hits.append(float(hit))
    values = {group: float(right[group]) for group in firsts}
    figures: dict[str, Any] = {
        "circular": mean(list(values.values())),
        "first_pass": mean(first_hits),
        "rows": mean(hits),
        "groups": len(values),
    }
    for name in ("l2-category", "category", "split"):
        kinds: dict[str, list[float]] = {}
        for group, question in firsts.items():
            if question.more[name]:
                kinds.setdefault(question.more[name], []).append(values[group])
        if kinds:
            figures[name] = {kind: mean(kinds[kind]) for kind in sorted(kinds)}
    return Scored(figures, values, unparsable, leanings=by_position(chosen))


PROTOCOLS = {
    "official": Rules("every rotation right; VLMEvalKit's exact matching, without a judge"),
    "llava15": Rules("as official"),
    "lmms": Rules("every rotation right; lmms-eval's rules, without its random last resort"),
}


def _task(name: str, title: str) -> AnswerTask:
    return AnswerTask(
        name=name,
        title=title,
        metric="circular",
        protocols=PROTOCOLS,
        questions=questions,
        pair=by_id("index", "question_id"),
        score=score,
        answer_fields=("text", "prediction"),
        decimals=5,
    )


MMBENCH = _task("mmbench", "MMBench")
MMBENCH_CN = _task("mmbench-cn", "MMBench-CN")
