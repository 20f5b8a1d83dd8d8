"""GQA: the official evaluator's figures, on questions whose figures can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.evaluate.tasks.gqa import converted, lmms, steps
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("Yes.", "yes", "yes"),
        ("yes. ", "yes. ", "yes "),
        ("No...", "no", "no"),
        (".Yes", ".yes", "yes"),
        (" T-shirt", " t-shirt", " tshirt"),
    ],
)
def test_conversions(text: str, ours: str, theirs: str) -> None:
    assert converted(text) == ours
    assert lmms(text) == theirs


@pytest.mark.parametrize(
    ("semantic", "count"),
    [
        ([("select", "dog (1)"), ("query", "name")], 1),
        ([("select", "dog (1)"), ("query", "color")], 2),
        ([("select", "dog (1)"), ("exist", "?")], 1),
        ([("select", "dog (1)"), ("choose name", "a|b")], 1),
        ([("select", "existing thing (1)"), ("verify", "x")], 1),
        ([], 0),
    ],
)
def test_steps_that_only_ask_are_not_counted(semantic: list[tuple[str, str]], count: int) -> None:
    assert steps([{"operation": operation, "argument": argument} for operation, argument in semantic]) == count


def question(answer: str, structural: str, group: str | None, **fields: Any) -> dict[str, Any]:
    return {
        "question": "what color is it",
        "imageId": "1",
        "answer": answer,
        "isBalanced": True,
        "entailed": [],
        "groups": {"global": group},
        "types": {"structural": structural, "semantic": "obj", "detailed": fields.pop("detailed", "x")},
        "semantic": [{"operation": "select", "argument": "dog"}],
        **fields,
    }


QUESTIONS = {
    "1": question("red", "query", "color", entailed=["1", "2", "4"]),
    "2": question("yes", "verify", None),
    "3": question("blue", "query", "color", detailed="objThisCommon"),
    "4": question("no", "verify", None, isBalanced=False),
}
CHOICES = {key: {"valid": ["red", "yes"], "plausible": ["red"]} for key in QUESTIONS}
ANSWERS = [
    {"questionId": key, "prediction": text} for key, text in (("1", "red"), ("2", "no"), ("3", "color"), ("4", "no"))
]


def test_figures(tmp_path: Path) -> None:
    found = Place(tmp_path).score("gqa", ANSWERS, {"q.json": QUESTIONS, "c.json": CHOICES}).figures
    assert found["accuracy"] == pytest.approx(100 / 3)
    assert (found["binary"], found["open"]) == (0, 50)
    assert found["consistency"] == 50  # of 1, which is right, 2 is wrong and 4 is right
    assert found["validity"] == pytest.approx(200 / 3)  # 1, and 3, which may be answered with color
    assert found["plausibility"] == pytest.approx(200 / 3)
    # red 1 against 1, blue 1 against 0: ((1-1)²/1 + (0-1)²/1) / 100
    assert found["distribution"] == pytest.approx(0.01)
    assert found["per_structural_type"] == {"query": 50, "verify": 0}
    assert found["per_steps"] == {"1": pytest.approx(100 / 3)}
    assert found["per_words"] == {"4": pytest.approx(100 / 3)}


def test_figures_without_what_they_need_are_null(tmp_path: Path) -> None:
    found = Place(tmp_path).score("gqa", ANSWERS[:3], {"q.json": QUESTIONS})
    assert (found.n, found.missing) == (3, 0)  # 4 is not balanced: it needs no answer
    assert found.figures["accuracy"] == pytest.approx(100 / 3)
    assert [found.figures[name] for name in ("consistency", "validity", "plausibility")] == [None] * 3
    place = {"q.json": {"1": question("red", "query", None)}}
    alone = Place(tmp_path).score("gqa", ANSWERS[:1], place).figures
    assert (alone["distribution"], alone["binary"], alone["accuracy"]) == (None, None, 100)


def test_answers_of_llava_are_converted_only_under_its_protocol(tmp_path: Path) -> None:
    answers = [{"question_id": key, "text": text} for key, text in (("1", "Red."), ("2", "Yes"), ("3", "Blue"))]
    values = {
        protocol: list(Place(tmp_path).score("gqa", answers, {"q.json": QUESTIONS}, protocol).values.values())
        for protocol in ("official", "llava15", "lmms")
    }
    assert values == {"official": [0, 0, 0], "llava15": [1, 1, 1], "lmms": [1, 1, 1]}
