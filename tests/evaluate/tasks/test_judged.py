"""LLaVA-Bench and MM-Vet: from a judge's words and grades to the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.evaluate.score import score_files
from sightline.evaluate.tasks.judged import FAILED, relative, review_scores
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("review", "scores"),
    [
        ("8 9\nBecause", (8, 9)),
        ("8.5,9", (8.5, 9)),
        ("8, 9", FAILED),  # the comma becomes a blank: three parts
        ("8  9", FAILED),
        (" 8 9", FAILED),
        ("8 9 ", FAILED),
        ("Score: 8", FAILED),
        ("8", FAILED),
        ("8 9 10", FAILED),
        ("8/10 9/10", FAILED),
        ("", FAILED),
        ("\n8 9", FAILED),
        ("1e1 -1", (10, -1)),
    ],
)
def test_the_first_line_of_a_review(review: str, scores: tuple[float, float]) -> None:
    assert review_scores(review) == scores


def test_means_are_rounded_before_their_ratio() -> None:
    scores = [(8.0, 5.0), (8.0, 5.0), (8.0, 6.0)]  # 5.333 of 8.0, not 16 thirds of 8
    assert relative(scores) == {"relative": 66.7, "reference": 80.0, "model": 53.3}
    assert relative([(3.0, 1.0), (3.0, 1.0), (4.0, 1.0)]) == {"relative": 30.0, "reference": 33.3, "model": 10.0}
    uneven = [(2.0, 8.0), (10.0, 6.0), (4.0, 4.0), (1.0, 5.0), (2.0, 4.0), (6.0, 3.0), (6.0, 7.0)]
    assert relative(uneven)["relative"] == 119.3  # 5.286 of 4.429; 37 of 31 would be 119.4
    assert relative([(0.0, 5.0)])["relative"] is None
    assert relative([]) == {"relative": None, "reference": None, "model": None}


def review(number: int, category: str, content: str) -> dict[str, Any]:
    return {"question_id": number, "category": category, "content": content}


REVIEWS = [review(1, "conv", "8 4\nx"), review(2, "conv", "eight"), review(3, "detail", "10 10")]


def test_failed_reviews_are_left_out_or_kept_as_the_original_has_them(tmp_path: Path) -> None:
    place = Place(tmp_path)
    official = place.score("llava-bench", REVIEWS, {}, name="r.jsonl")
    assert (official.unparsable, official.figures["relative"]) == (1, 77.8)
    assert official.figures["categories"]["conv"]["relative"] == 50
    llava = place.score("llava-bench", REVIEWS, {}, "llava15", name="r.jsonl")
    assert llava.figures["relative"] == round(round(13 / 3, 3) / round(17 / 3, 3) * 100, 1)
    assert llava.figures["categories"]["conv"] == {"relative": 42.9, "reference": 35.0, "model": 15.0}


def test_the_question_file_tells_which_reviews_are_missing(tmp_path: Path) -> None:
    asked = [{"question_id": number, "text": "?"} for number in (1, 2, 3, 4)]
    found = Place(tmp_path).score("llava-bench", REVIEWS, {"questions.jsonl": asked}, name="r.jsonl")
    assert (found.missing, found.figures["relative"]) == (1, None)
    assert found.answered_only is not None
    assert found.answered_only["relative"] == 77.8


def test_several_runs_are_averaged(tmp_path: Path) -> None:
    place = Place(tmp_path)
    files = [place.write(f"{n}.jsonl", [review(1, "conv", f"10 {n}")]) for n in (4, 5, 9)]
    found = score_files("llava-bench-coco", files, [])
    assert (found.figures["relative"], found.figures["runs"]) == (60, [40, 50, 90])


ITEMS = {
    "v1_0": {"capability": ["ocr", "math"]},
    "v1_1": {"capability": ["ocr"]},
    "v1_2": {"capability": ["math", "ocr"]},
}


def test_grades_by_capability_and_combination(tmp_path: Path) -> None:
    grades = {"v1_0": {"score": [1.0, 0.0]}, "v1_1": {"score": [0.5, 0.5]}, "v1_2": {"score": [0.0, 0.1]}}
    found = Place(tmp_path).score("mmvet", grades, {"mm-vet.json": ITEMS}).figures
    assert (found["total"], found["std"], found["runs"]) == (35.0, 15.0, [50.0, 20.0])
    assert found["capability"] == {"ocr": 35.0, "math": 27.5}
    assert found["integration"] == {"math_ocr": 27.5, "ocr": 50.0}


@pytest.mark.parametrize(
    ("grades", "words"),
    [
        ({"v1_0": {"score": [1.5]}}, "numbers from 0 to 1"),
        ({"v1_0": "an answer"}, "a judge's grades"),
        (
            {"v1_0": {"score": [1]}, "v1_1": {"score": [1]}, "v1_2": {"score": [1, 0]}},
            "v1_2 has 2 grades, the others have 1",
        ),
        ({"v2_0": {"score": [1]}}, "no grade is of a question"),
        ({}, "expected a grade file"),
    ],
)
def test_refusals(tmp_path: Path, grades: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Place(tmp_path).score("mmvet", grades, {"mm-vet.json": ITEMS})


def test_mmvet_without_all_grades_has_no_figure(tmp_path: Path) -> None:
    found = Place(tmp_path).score("mmvet", {"v1_0": {"score": [1]}}, {"mm-vet.json": ITEMS})
    assert (found.missing, found.figures["total"]) == (2, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "r.jsonl:1: expected an object with question_id"),
        ('{"question_id": 1}', "review 1: no scores"),
        ("", "no reviews"),
    ],
)
def test_files_that_are_no_reviews(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Place(tmp_path).score("llava-bench", line, {}, name="r.jsonl")
