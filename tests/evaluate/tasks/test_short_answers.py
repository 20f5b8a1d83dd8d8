"""Short answers of one's own: what counts as right, and what a file may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluate.tasks.short_answers import normalise, questions
from tests.evaluate.files import Place

LINE = {"question_id": "7-color", "image": "7.png", "text": "What color?", "answer": "red", "category": "color"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red star", "red star"),
        ("  The Red  Star. ", "red star"),
        ("A cross", "cross"),
        ("an owl!", "owl"),
        ('"CAT"', "cat"),
        ("'cat',", "cat"),
        ("top\tleft\n", "top left"),
        ("the", "the"),
        ("a", "a"),
        ("theatre", "theatre"),
        ("another star", "another star"),
        ("the a", "a"),
        ("12.", "12"),
        ("3.5", "3.5"),
        ("yes, it is", "yes, it is"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_answers_are_compared_without_case_article_and_punctuation(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_questions_come_in_order_and_empty_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    more = {**LINE, "question_id": 8, "unseen": True, "answer": "größer \N{LINE SEPARATOR} 😀"}
    path.write_text(f"{json.dumps(LINE)}\n\n{json.dumps(more, ensure_ascii=False)}\r\n", encoding="utf-8")
    first, second = questions([path])
    assert (first.id, first.image, first.text, first.answers, first.group) == tuple(
        (value,) if key == "answer" else value for key, value in LINE.items()
    )
    assert (second.id, second.answers) == ("8", (more["answer"],))
    assert (first.more["unseen"], second.more["unseen"]) == (False, True)


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        questions([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(b"{", "question_id", id="cut"),
        pytest.param(b"[1]", "question_id", id="a list"),
        pytest.param(b"3", "question_id", id="a number"),
        pytest.param(b"{}", "question_id", id="empty"),
        pytest.param(b'{"question_id": 1}', "image", id="image missing"),
        pytest.param(json.dumps({**LINE, "ansver": 1}).encode(), "ansver", id="unknown key"),
        pytest.param(json.dumps({**LINE, "answer": 3}).encode(), "answer is 3", id="answer is a number"),
        pytest.param(json.dumps({**LINE, "image": None}).encode(), "image is None", id="image is null"),
        pytest.param(b'{"question_id": "\xff"}', "utf-8", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "question_id", id="too deep"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b"\n" + text + b"\n")
    assert f"{path}:2:" in (message := refused(path))
    assert words in message


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.jsonl").write_bytes(content)
    assert "no questions" in refused(tmp_path / "empty.jsonl")


def test_a_missing_file_or_a_directory_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.jsonl")
    assert "no such file" in refused(tmp_path)


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n{json.dumps(LINE)}\n")
    assert "7-color is there twice" in refused(path)


def test_accuracy_is_by_category_and_over_all_questions(tmp_path: Path) -> None:
    lines = [{**LINE, "question_id": str(number), "category": "ab"[number > 0]} for number in range(3)]
    answers = {"0": "The red.", "1": "blue", "2": "red"}
    result = Place(tmp_path).score("short-answers", answers, {"questions.jsonl": lines})
    assert result.figures["accuracy"] == pytest.approx(200 / 3)
    assert result.figures["category"] == {"a": 100.0, "b": 50.0}
