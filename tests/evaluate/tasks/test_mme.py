"""MME: what is a yes, and how pictures with two questions are scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluate.tasks.mme import category_figures, key_of, lmms_answer, official_answer
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("text", "official", "lmms"),
    [
        ("Yes", "yes", "yes"),
        ("no", "no", "no"),
        ("None", "no", "no"),
        ("not", "no", "no"),
        ("I know", "other", "other"),
        ("know", "no", "no"),
        ("now", "no", "no"),
        ("eyes", "yes", "yes"),
        ("Y", "other", "yes"),
        ("n.", "other", "no"),
        ("   no", "other", "no"),
        ("  no", "no", "no"),
        ("", "other", "other"),
        ("yes no", "yes", "yes"),
        ("I yes", "other", "other"),
        ("ah no", "other", "other"),
        ("ye.s", "other", "yes"),
    ],
)
def test_what_is_a_yes(text: str, official: str, lmms: str) -> None:
    assert official_answer(text) == official
    assert lmms_answer(text) == lmms


@pytest.mark.parametrize(
    "asked",
    [
        "Is it red? Please answer yes or no.",
        "Is it red?  Please answer yes or no.",
        "Is it red?\nAnswer the question using a single word or phrase.",
        "Is it red? Please answer yes or no.\nAnswer the question using a single word or phrase.",
        "Is it red?",
    ],
)
def test_the_suffix_does_not_tell_questions_apart(asked: str) -> None:
    assert key_of("color", "images/7.png", asked) == ("color", "7", "Is it red?")


def test_category_figures() -> None:
    said = [
        ("a", "yes", "yes"),
        ("a", "no", "no"),
        ("b", "yes", "yes"),
        ("b", "yes", "no"),
        ("c", "other", "yes"),
        ("c", "no", "no"),
    ]
    found = category_figures(said)
    assert found["score"] == pytest.approx(100 * (4 / 6 + 1 / 3))
    assert (found["tp"], found["fn"], found["tn"], found["fp"], found["other"]) == (2, 0, 2, 1, 1)
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3), 1)
    assert category_figures([("a", "other", "yes"), ("a", "other", "no")])["precision"] == 0


TABLE = "1.jpg\tIs it red? Please answer yes or no.\tYes\n1.jpg\tIs it blue? Please answer yes or no.\tNo\n"


def test_official_results_with_a_fourth_column_in_any_order(tmp_path: Path) -> None:
    given = "\n".join(
        f"{line}\t{answer}" for line, answer in zip(TABLE.splitlines()[::-1], ("no", "Yes, it is"), strict=True)
    )
    found = Place(tmp_path).score("mme", given, {"truth/color.txt": TABLE}, name="given/color.txt")
    assert (found.figures["perception"], found.figures["cognition"]) == (200, None)
    assert "the sums are without existence" in found.notes[0]


def test_the_benchmarks_own_folders(tmp_path: Path) -> None:
    pictures = {
        "color/questions_answers_YN/1.txt": "Is it red? Please answer yes or no.\tYes\nIs it blue?\tNo\n",
        "count/2.txt": "Is it one? Please answer yes or no.\tYes\nIs it two? Please answer yes or no.\tNo\n",
    }
    answers = [
        {
            "question_id": f"{where}",
            "prompt": f"Is it {what}?\nAnswer the question using a single word or phrase.",
            "text": text,
        }
        for where, what, text in (
            ("color/1.jpg", "red", "Yes"),
            ("color/1.jpg", "blue", "no"),
            ("count/2.jpg", "one", "Yes"),
            ("count/2.jpg", "two", "Yes"),
        )
    ]
    found = Place(tmp_path).score("mme", answers, pictures, name="a.jsonl")
    assert found.figures["perception"] == 200 + 50


@pytest.mark.parametrize(
    ("truth", "given", "words"),
    [
        (TABLE + "1.jpg\tIs it big?\tYes\n", "", "picture color/1.jpg has 3 questions"),
        ("1.jpg\tIs it red?\tmaybe\n", "", "color.txt:1: expected picture, question and Yes or No"),
        (TABLE, "1.jpg\tIs it red?\tYes\tYes,\tit is\n", "found 5 parts"),
        (TABLE, "\n", "no answers in it"),
    ],
)
def test_refusals(tmp_path: Path, truth: str, given: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Place(tmp_path).score("mme", given, {"truth/color.txt": truth}, name="given/color.txt")
