"""TextVQA: the question in a prompt, pairs, and the three figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.evaluate.tasks.textvqa import anls, asked_in
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("What is it?\nAnswer briefly.", "what is it?"),
        ("What is it?\nReference OCR token: A, B\nAnswer briefly.", "what is it?"),
        ("Reference OCR token: A\nWhat is it?\nAnswer briefly.", "what is it?"),
        ("OCR tokens: A, B. Question: What\nis it? Short answer:", "what\nis it?"),
        ("OCR tokens: A. What is it?", None),
        ("What is it?", None),
        ("What\nis it?\nAnswer briefly.", None),
        ("What is it?\nReference OCR token: A\nB\nAnswer briefly.", None),
    ],
)
def test_the_question_in_a_prompt(prompt: str, asked: str | None) -> None:
    assert asked_in(prompt) == asked


def entry(number: int, image: str, question: str, answer: str) -> dict[str, object]:
    return {"question_id": number, "image_id": image, "question": question, "answers": [answer] * 10}


TRUTH = {
    "data": [entry(1, "x", "What is it?", "coke"), entry(2, "x", "what is it?", "pepsi"), entry(3, "y", "Who?", "nike")]
}


def row(image: str, question: str, text: str) -> dict[str, str]:
    return {"question_id": image, "prompt": f"{question}\nAnswer briefly.", "text": text}


def test_questions_with_the_same_words_share_the_last_ones_answers_only_in_llavas_script(tmp_path: Path) -> None:
    rows = [row("x", "What is it?", "Coke"), row("x", "what is it?", "Pepsi"), row("y", "Who?", "Nike.")]
    place = Place(tmp_path)
    official = place.score("textvqa", rows, {"t.json": TRUTH}, name="a.jsonl")
    assert list(official.values.values()) == [1, 1, 1]
    llava = place.score("textvqa", rows, {"t.json": TRUTH}, "llava15", name="a.jsonl")
    assert list(llava.values.values()) == [0, 1, 1]


def test_official_submissions_are_paired_by_id(tmp_path: Path) -> None:
    answers = [{"question_id": number, "answer": text} for number, text in ((1, "coke"), (2, "coke"), (3, "nik"))]
    found = Place(tmp_path).score("textvqa", answers, {"t.json": TRUTH})
    assert found.figures == {
        "accuracy": pytest.approx(100 / 3),
        "stvqa_accuracy": pytest.approx(100 / 3),
        "stvqa_anls": pytest.approx(175 / 3),
    }


def test_a_prompt_of_no_known_shape_belongs_to_no_question(tmp_path: Path) -> None:
    rows = [row("x", "What\nis it?", "Coke"), row("y", "Who?", "Nike")]
    found = Place(tmp_path).score("textvqa", rows, {"t.json": TRUTH}, name="a.jsonl")
    assert (found.extra, found.missing, found.figures["accuracy"]) == (1, 2, None)


@pytest.mark.parametrize(
    ("given", "answers", "value"),
    [("abcd", ["ABCD "], 1), ("abcx", ["abcd"], 0.75), ("abxx", ["abcd"], 0.5), ("axxx", ["abcd"], 0), ("", [""], 1)],
)
def test_anls_below_a_half_is_nothing(given: str, answers: list[str], value: float) -> None:
    assert anls(given, answers) == value
