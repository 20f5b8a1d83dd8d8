"""GQA: exact match on the balanced questions, and the other figures of the official evaluator (eval.py).

Answers are compared literally. Validity and plausibility need the file of choices, consistency the entailed questions
with their answers; without them these figures are None, where LLaVA's edited evaluator prints a 0 that means nothing.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.result_files import Row, read_json, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

NOT_STEPS = ("exist", "query: name", "choose name")
"""Steps whose `operation: argument` holds one of these only ask for the answer, and are not counted."""
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def converted(text: str) -> str:
    """LLaVA's convert_gqa_for_eval.py: periods at the end go, then lower case. `yes. ` stays `yes. `."""
    return text.rstrip(".").lower()


def lmms(text: str) -> str:
    """lmms-eval's exact_match: lower case without any punctuation; blanks stay."""
    return text.lower().translate(_WITHOUT_PUNCTUATION)


def steps(semantic: Sequence[Mapping[str, Any]]) -> int:
    """Reasoning steps of a question."""
    shown = (f"{step['operation']}: {step['argument']}" for step in semantic)
    return sum(not any(mark in step for mark in NOT_STEPS) for step in shown)


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads *_questions.json, `id -> question`, and *_choices.json beside it, `id -> {valid, plausible}`."""
    asked: dict[str, Any] = {}
    choices: dict[str, Any] = {}
    for path in paths:
        content = read_json(path)
        first = next(iter(content.values()), None) if isinstance(content, dict) else None
        if isinstance(first, dict) and {"question", "imageId"} <= set(first):
            asked.update(content)
        elif isinstance(first, dict) and {"valid", "plausible"} <= set(first):
            choices.update(content)
        else:
            raise refuse(path, "expected GQA's testdev_balanced_questions.json (id -> question) or *_choices.json")
    if not asked:
        raise refuse(", ".join(map(str, paths)), "no questions of GQA in it; add testdev_balanced_questions.json")
    return [_question(key, entry, choices.get(key)) for key, entry in asked.items()]


def _question(key: str, entry: dict[str, Any], choices: dict[str, Any] | None) -> Question:
    types = entry.get("types") or {}
    return Question(
        id=key,
        image=str(entry["imageId"]),
        text=entry["question"],
        answers=(entry["answer"],) if "answer" in entry else (),
        group=types.get("structural") or "",
        more={
            "semantic": types.get("semantic") or "",
            "common": "Common" in (types.get("detailed") or ""),
            "steps": steps(entry.get("semantic") or ()),
            "global": (entry.get("groups") or {}).get("global"),
            "balanced": bool(entry.get("isBalanced", True)),
            "entailed": [name for name in entry.get("entailed") or () if name != key],
            "choices": choices,
        },
    )


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Percent, and the distribution's distance; see the official evaluator for what each figure means."""
    clean = CONVERSIONS[protocol]
    gold = {question.id: lmms(_gold(question)) if protocol == "lmms" else _gold(question) for question in asked}
    given = {question.id: clean(row.text) for question, row in zip(asked, rows, strict=True) if row is not None}
    counted = [question for question in asked if question.more["balanced"]]
    right = {question.id: float(given.get(question.id) == gold[question.id]) for question in counted}
    figures: dict[str, Any] = {
        "accuracy": percent(mean(list(right.values()))),
        "binary": percent(mean([right[question.id] for question in counted if question.group != "query"])),
        "open": percent(mean([right[question.id] for question in counted if question.group == "query"])),
        "consistency": percent(_consistency(counted, right, given, gold)),
        **{name: _choice(counted, given, name, key) for name, key in _CHOICES.items()},
        "distribution": _distribution(counted, given, gold),
    }
    splits: dict[str, Callable[[Question], Any]] = {
        "per_structural_type": lambda question: question.group,
        "per_semantic_type": lambda question: question.more["semantic"],
        "per_steps": lambda question: question.more["steps"],
        "per_words": lambda question: len(question.text.split()),
    }
    for name, of in splits.items():
        kinds: dict[Any, list[float]] = {}
        for question in counted:
            kinds.setdefault(of(question), []).append(right[question.id])
        figures[name] = {str(kind): percent(mean(kinds[kind])) for kind in sorted(kinds)}
    return Scored(figures, right)


CONVERSIONS: dict[str, Callable[[str], str]] = {"official": str, "llava15": converted, "lmms": lmms}
_CHOICES = {"validity": "valid", "plausibility": "plausible"}


def _gold(question: Question) -> str:
    return question.answers[0]


def _consistency(
    counted: Sequence[Question], right: Mapping[str, float], given: Mapping[str, str], gold: Mapping[str, str]
) -> float | None:
    """Over right answers: the mean accuracy on the questions that they entail. None where one of these is not known."""
    scores = []
    for question in counted:
        entailed = question.more["entailed"]
        if not right[question.id] or not entailed:
            continue
        if any(name not in given or name not in gold for name in entailed):
            return None
        scores.append(sum(given[name] == gold[name] for name in entailed) / len(entailed))
    return mean(scores)


def _choice(counted: Sequence[Question], given: Mapping[str, str], name: str, key: str) -> float | None:
    """The share of answers among the choices. Questions about what things have in common have three of their own."""
    values = []
    for question in counted:
        choices = question.more["choices"]
        if choices is None:
            return None
        allowed = ("color", "material", "shape") if question.more["common"] else choices[key]
        values.append(float(given.get(question.id) in allowed))
    return percent(mean(values))


def _distribution(counted: Sequence[Question], given: Mapping[str, str], gold: Mapping[str, str]) -> float | None:
    """Chi-square of answers given against right ones in each global group, weighted by its questions, over 100."""
    expected: dict[str, Counter[str]] = {}
    observed: dict[str, Counter[str]] = {}
    for question in counted:
        group = question.more["global"]
        if group is not None:
            expected.setdefault(group, Counter())[gold[question.id]] += 1
            observed.setdefault(group, Counter())[given[question.id]] += 1
    total = sum(counts.total() for counts in expected.values())
    if not total:
        return None
    weighted = sum(
        counts.total() * sum((observed[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in expected.items()
    )
    return weighted / total / 100


GQA = AnswerTask(
    name="gqa",
    title="GQA",
    metric="accuracy",
    protocols={
        "official": Rules("literal equality of the answers as they are"),
        "llava15": Rules("periods at the end go, lower case, then literal equality"),
        "lmms": Rules("equality without case and punctuation"),
    },
    questions=questions,
    pair=by_id("questionId", "question_id"),
    optional=lambda question: not question.more["balanced"],
    score=score,
)
