"""POPE: is this object in the picture? Three sets of yes/no questions (RUCAIBox/POPE, evaluate.py).

Answers are paired with labels by id, and what was asked is checked where it is known; the original pairs by position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluate.leanings import yes_no
from sightline.evaluate.prompts import SHORT
from sightline.evaluate.result_files import ID, Row, read_json, refuse
from sightline.evaluate.results import mean, ratio
from sightline.evaluate.tasks.task import AnswerTask, Paired, Question, Rules, Scored

SETS = ("adversarial", "popular", "random")
FIRST_IDS = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}
"""In LLaVA's llava_pope_test.jsonl the ids of a set follow this number; in POPE's files each set begins at 1."""


def says_no(text: str) -> bool:
    """Whether `No`, `no` or `not` is a word of the answer's first sentence; everything else is a yes, also nothing.

    The sentence ends at the first period, commas go, and words are what single blanks part: `No!` is no `No`.
    """
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "No" in words or "not" in words or "no" in words


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads coco_pope_*.json (JSON lines with labels), named by their set, and perhaps llava_pope_test.jsonl.

    The latter says which set and which label the ids of LLaVA's answers belong to.
    """
    found: list[Question] = []
    asked: list[dict[str, Any]] = []
    for path in paths:
        entries = read_json(path)
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and {"question_id", "text"} <= set(e) for e in entries
        ):
            raise refuse(path, "expected a file of POPE: lines with question_id, image, text, label")
        if entries and "label" not in entries[0] and "category" in entries[0]:
            asked += entries
            continue
        name = next((name for name in SETS if name in path.stem), path.stem)
        found += [_question(name, entry, path, number) for number, entry in enumerate(entries, start=1)]
    if not found:
        raise refuse(", ".join(map(str, paths)), "no labels in it; add coco_pope_random.json and its like")
    _check_repeats(found, paths)
    return _renamed(found, asked) if asked else found


def _check_repeats(found: Sequence[Question], paths: Sequence[Path]) -> None:
    seen: set[str] = set()
    for question in found:
        if question.id in seen:
            raise refuse(
                ", ".join(map(str, paths)), f"question {question.id} is there twice: the same set was given twice"
            )
        seen.add(question.id)


def _question(name: str, entry: dict[str, Any], path: Path, number: int) -> Question:
    if "label" not in entry:
        raise refuse(f"{path}:{number}", "no label; expected question_id, image, text, label")
    return Question(
        id=f"{name}/{entry['question_id']}",
        image=str(entry.get("image", "")),
        text=entry["text"],
        answers=(entry["label"],),
        group=name,
        more={"number": entry["question_id"], "llava": None},
    )


def _renamed(found: list[Question], asked: Sequence[dict[str, Any]]) -> list[Question]:
    """The label files' questions with LLaVA's ids: the k-th question of a set has its k-th label, if it is the same."""
    numbers: dict[str, list[dict[str, Any]]] = {}
    for entry in asked:
        numbers.setdefault(str(entry["category"]), []).append(entry)
    place: dict[str, int] = {}
    renamed = []
    for question in found:
        position = place[question.group] = place.get(question.group, -1) + 1
        own = numbers.get(question.group, [])
        if position >= len(own):
            raise DataError(
                f"POPE's {question.group} labels have more questions than llava_pope_test.jsonl ({len(own)}): LLaVA's "
                "belongs to the version of commit e3e39262",
                reason="label_order",
            )
        _check_text(question, str(own[position]["text"]), "llava_pope_test.jsonl")
        renamed.append(replace(question, more={**question.more, "llava": own[position]["question_id"]}))
    return renamed


def _check_text(question: Question, text: str, where: str) -> None:
    text = text.removesuffix(SHORT).strip()
    if text and text != question.text.strip():
        raise DataError(
            f"{where}: asks {text!r}, but question {question.id} of the labels is {question.text!r}: they are of "
            "another version or in another order (LLaVA-1.5 needs POPE's commit e3e39262)",
            reason="label_order",
        )


def pair(questions: Sequence[Question], rows: Sequence[Row]) -> Paired:
    """By id; rows without any (POPE's own `{question, answer}` lines) by position, where there are as many of both.

    Raises:
        DataError: a row was asked another question than its label is about, or rows without ids are more or fewer.
    """
    if not any({"question_id", ID} & row.fields.keys() for row in rows):
        if len(rows) != len(questions):
            raise DataError(
                f"{rows[0].place}: answers without ids are paired by position, but there are {len(rows)} answers to "
                f"{len(questions)} labels: score one set at a time, or add question_id",
                reason="label_order",
            )
        for question, row in zip(questions, rows, strict=True):
            _check_text(question, str(row.fields.get("question", "")), row.place)
        return Paired(list(rows), [], [])
    names = _names(questions)
    found: dict[str, Row] = {}
    extra: list[Row] = []
    doubled: list[Row] = []
    for row in rows:
        known = names.get(_key(row))
        if known is None:
            extra.append(row)
            continue
        _check_text(known, str(row.fields.get("prompt", row.fields.get("question", ""))), row.place)
        if known.id in found:
            doubled.append(row)
        found[known.id] = row
    return Paired([found.get(question.id) for question in questions], extra, doubled)


def _key(row: Row) -> Hashable:
    number = str(row.fields.get("question_id", row.fields.get(ID)))
    category = row.fields.get("category")
    return f"{category}/{number}" if category in SETS and "/" not in number else number


def _names(questions: Sequence[Question]) -> Mapping[Hashable, Question]:
    """Every id under which an answer may come: `set/number`, LLaVA's, and the number alone where there is one set."""
    names: dict[Hashable, Question] = {}
    one_set = len({question.group for question in questions}) == 1
    for question in questions:
        names[question.id] = question
        number, llava = question.more["number"], question.more["llava"]
        if llava is None and question.group in FIRST_IDS and str(number).isdigit():
            llava = FIRST_IDS[question.group] + int(number)
        if llava is not None:
            names[str(llava)] = question
        if one_set:
            names.setdefault(str(number), question)
    return names


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Shares from 0 to 1 for each set, and the mean of their F1; lmms-eval's for all sets in one as well."""
    values: dict[str, float] = {}
    said: dict[str, list[tuple[str, str]]] = {}
    other = 0
    for question, row in zip(asked, rows, strict=True):
        assert row is not None
        label = question.answers[0]
        if protocol == "lmms":
            answer, label = row.text.lower().strip(), label.lower().strip()
            other += answer not in ("yes", "no")
        else:
            answer, label = "no" if says_no(row.text) else "yes", "no" if label == "no" else "yes"
        said.setdefault(question.group, []).append((answer, label))
        values[question.id] = float(answer == label)
    count = lmms_figures if protocol == "lmms" else official_figures
    sets = {name: count(said[name]) for name in sorted(said)}
    scores = [figures["f1"] for figures in sets.values()]
    figures: dict[str, Any] = {"mean_f1": None if None in scores else mean(scores), **sets}
    if protocol == "lmms":
        figures["all"] = count([pair for pairs in said.values() for pair in pairs])
    notes = () if set(SETS) <= set(sets) else (f"the mean is over {len(sets)} of POPE's three sets: {', '.join(sets)}",)
    leanings = yes_no(pair for pairs in said.values() for pair in pairs)
    return Scored(figures, values, other, notes, leanings)


def official_figures(said: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Of pairs of answer and label. None where POPE's script divides by zero."""
    count = Counter(said)
    tp, fp, tn, fn = count["yes", "yes"], count["yes", "no"], count["no", "no"], count["no", "yes"]
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    both = None if precision is None or recall is None else precision + recall
    return {
        "accuracy": ratio(tp + tn, len(said)),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both and precision is not None and recall is not None else None,
        "yes_ratio": ratio(tp + fp, len(said)),
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
    }


def lmms_figures(said: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """As lmms-eval counts: an answer that is neither yes nor no is only wrong, 0 where it would divide by zero, and
    its yes ratio is that of the labels."""
    count = Counter(said)
    tp, fp, tn, fn = count["yes", "yes"], count["yes", "no"], count["no", "no"], count["no", "yes"]
    labels = Counter(label for _, label in said)
    precision, recall = ratio(tp, tp + fp) or 0.0, ratio(tp, tp + fn) or 0.0
    return {
        "accuracy": ratio(tp + tn, len(said)),
        "precision": precision,
        "recall": recall,
        "f1": 2 * (precision * recall) / (precision + recall) if precision + recall else 0.0,
        "yes_ratio_of_labels": ratio(labels["yes"], labels["yes"] + labels["no"]) or 0.0,
    }


POPE = AnswerTask(
    name="pope",
    title="POPE",
    metric="mean_f1",
    protocols={
        "official": Rules("no, not or No as a word of the first sentence is a no, all else a yes"),
        "llava15": Rules("as official"),
        "lmms": Rules("the answer must be yes or no, in any case; all else is wrong"),
    },
    questions=questions,
    pair=pair,
    score=score,
    decimals=4,
)
