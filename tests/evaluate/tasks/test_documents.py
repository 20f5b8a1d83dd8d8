"""OCR-VQA, ChartQA, DocVQA: their measures, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.evaluate.tasks.documents import anls, relaxed, same
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("given", "answer", "value"),
    [
        ("105", "100", 1),
        ("105.1", "100", 0),
        ("95", "100", 1),
        ("-100", "100", 0),
        ("10%", "0.1", 1),
        ("10", "10%", 0),
        ("0", "0", 1),
        ("0.0", "0", 0),  # a right answer of 0 is compared as text
        ("Yes", "yes", 1),
        ("yes ", "yes", 0),
        ("1,000", "1000", 0),
        ("abc", "100", 0),
        ("nan%", "5", 0),
    ],
)
def test_relaxed_accuracy(given: str, answer: str, value: float) -> None:
    assert relaxed(given, [answer]) == value


@pytest.mark.parametrize(
    ("given", "answers", "value"),
    [
        ("Acme  Corp", ["acme corp"], 1),
        ("abcx", ["abcd", "zz"], 0.75),
        ("abxx", ["abcd"], 0.5),
        ("axxx", ["abcd"], 0),
        ("", ["abcd"], 0),
        ("  abcx", ["abcd"], 1 - 1 / 6),  # the length is that before blanks go
        ("", [""], 1),
    ],
)
def test_anls(given: str, answers: list[str], value: float) -> None:
    assert anls(given, answers) == pytest.approx(value)


def test_ocrvqa_equality() -> None:
    assert same(" John SMITH ", ["john smith"]) == 1
    assert same("john smith.", ["john smith"]) == 0


def test_ocrvqa_asks_the_test_split(tmp_path: Path) -> None:
    books = {
        "b1": {"questions": ["Who?", "What?"], "answers": ["Ann", "Art"], "split": 3},
        "b2": {"questions": ["Who?"], "answers": ["Bo"], "split": 1},
    }
    found = Place(tmp_path).score("ocrvqa", {"b1_0": "ann", "b1_1": "arts"}, {"dataset.json": books})
    assert (found.n, found.figures) == (2, {"accuracy": 50})


@pytest.mark.parametrize("by_name", [True, False])
def test_chartqa_by_split(tmp_path: Path, by_name: bool) -> None:
    human = [
        {"imgname": "1.png", "query": "How many?", "label": "100"},
        {"imgname": "1.png", "query": "Who?", "label": "Ann"},
    ]
    augmented = [{"imgname": "2.png", "query": "How many?", "label": "5"}]
    texts = ("103", "bo", "5")
    named = [
        {**{k: v for k, v in row.items() if k != "label"}, "prediction": text}
        for row, text in zip(human + augmented, texts, strict=True)
    ]
    numbered = dict(zip(("human/0", "human/1", "augmented/0"), texts, strict=True))
    truths = {"test_human.json": human, "test_augmented.json": augmented}
    found = Place(tmp_path).score("chartqa", named if by_name else numbered, truths)
    assert found.figures == {"relaxed_accuracy": pytest.approx(200 / 3), "augmented": 100, "human": 50}


def test_docvqa(tmp_path: Path) -> None:
    truth = {"data": [{"questionId": 7, "question": "?", "image": "x.png", "answers": ["abcd", "Abcx"]}]}
    found = Place(tmp_path).score("docvqa", [{"questionId": 7, "answer": "abcx"}], {"val.json": truth})
    assert found.figures == {"anls": 100}
