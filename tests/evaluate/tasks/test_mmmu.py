"""MMMU: the official parser without its dice."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.evaluate.tasks.mmmu import choice, normalised, open_right
from tests.evaluate.files import Place

OPTIONS = {"A": "a cat", "B": "a dog", "C": "red"}


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("(A) or (B)", "B"),
        ("A is wrong, B is right", "B"),
        ("A. cat", "A"),
        ("it shows what looks like a dog in the sun", "B"),
        ("first a dog and then a cat and so on", "A"),
        ("here is a dog now", None),  # five words or fewer: no texts
        ("here there is a dog now", "B"),
        ("nothing", None),
        ("", None),
        ("NBA", "A"),  # an A before a blank, wherever
    ],
)
def test_the_letter(response: str, letter: str | None) -> None:
    assert choice(response, OPTIONS) == letter


def test_numbers_are_compared_to_two_places_and_letters_with_a_blank() -> None:
    assert normalised("1,000.004") == [1000.0]
    assert normalised(" Red ") == ["red"]
    assert normalised("X") == [" x", "x "]


@pytest.mark.parametrize(
    ("response", "answers", "right"),
    [
        ("The answer is 5.", ["5"], True),
        ("so x = 3.141", ["3.14"], True),
        ("It is about 1,000 units", ["1000"], True),
        ("The result is red wine", ["Red"], True),
        ("blue", ["Red", "blue"], True),
        ("5", ["6"], False),
        ("green", ["red"], False),
    ],
)
def test_open_answers(response: str, answers: list[str], right: bool) -> None:
    assert open_right(response, answers) is right


def test_figures_by_subject_and_domain(tmp_path: Path) -> None:
    rows = [
        {
            "id": "validation_Math_1",
            "question": "?",
            "options": "['1', '2']",
            "answer": "B",
            "question_type": "multiple-choice",
        },
        {"id": "validation_Math_2", "question": "?", "options": "[]", "answer": "12", "question_type": "open"},
        {
            "id": "validation_Art_Theory_1",
            "question": "?",
            "options": "['x', 'y']",
            "answer": "A",
            "question_type": "multiple-choice",
        },
    ]
    given = {"validation_Math_1": "B", "validation_Math_2": "It is 11", "validation_Art_Theory_1": "hm"}
    found = Place(tmp_path).score("mmmu", given, {"val.json": rows})
    assert found.figures["accuracy"] == pytest.approx(100 / 3)
    assert found.figures["subject"] == {"Art_Theory": 0, "Math": 50}
    assert (found.figures["domain"]["Science"], found.figures["domain"]["Business"]) == (50, None)
    assert found.unparsable == 1


def test_the_official_answer_file(tmp_path: Path) -> None:
    truth = {
        "validation_Math_1": {"question_type": "multiple-choice", "ground_truth": "B"},
        "validation_Math_2": {"question_type": "short-answer", "ground_truth": ["12", "twelve"]},
    }
    found = Place(tmp_path).score("mmmu", {"validation_Math_1": "B", "validation_Math_2": "twelve"}, {"a.json": truth})
    assert found.figures["accuracy"] == 100
