"""SEED-Bench: letters taken literally, ids as LLaVA's script takes them, types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.files import Place


def question(number: str, answer: str, kind: int, data_type: str = "image") -> dict[str, Any]:
    return {"question_id": number, "question": "?", "answer": answer, "question_type_id": kind, "data_type": data_type}


TRUTH = {
    "questions": [
        question("1", "A", 1),
        question("2", "B", 2),
        question("v3", "C", 10, "video"),
        question("1", "A", 1),
    ],
    "question_type": {"Scene": 1, "Counting": 2, "Action": 10},
}


def rows(*texts: str, as_text: bool = False) -> list[dict[str, Any]]:
    ids: list[Any] = ["1", "2", "v3"] if as_text else [1, 2, "v3"]
    return [{"question_id": number, "text": text} for number, text in zip(ids, texts, strict=True)]


@pytest.mark.parametrize(
    ("protocol", "total", "image", "video"),
    [("official", 50, pytest.approx(200 / 3), 0), ("llava15", 50, pytest.approx(200 / 3), 0), ("lmms", 100, 100, 100)],
)
def test_letters(tmp_path: Path, protocol: str, total: float, image: float, video: float) -> None:
    found = Place(tmp_path).score("seedbench", rows("A", "B. cat", "c"), {"s.json": TRUTH}, protocol, name="a.jsonl")
    assert [found.figures[name] for name in ("total", "image", "video")] == [total, image, video]
    assert found.n == 4  # one id is in the file twice, and counts twice


def test_a_type_without_a_right_answer_is_zero_where_the_original_fails(tmp_path: Path) -> None:
    found = Place(tmp_path).score("seedbench", rows("A", "C", "C"), {"s.json": TRUTH}, name="a.jsonl")
    assert found.figures["per_type"] == {"Scene": 100, "Counting": 0, "Action": 100}


def test_ids_as_text_are_lost_in_llavas_script_alone(tmp_path: Path) -> None:
    place, answers = Place(tmp_path), rows("A", "B", "C", as_text=True)
    llava = place.score("seedbench", answers, {"s.json": TRUTH}, "llava15", name="a.jsonl")
    assert (llava.figures["image"], llava.figures["video"]) == (0, 100)
    assert "3 answers have their id as text" in llava.notes[0]
    assert place.score("seedbench", answers, {"s.json": TRUTH}, name="a.jsonl").figures["total"] == 100


def test_a_missing_answer_is_wrong_and_counted(tmp_path: Path) -> None:
    found = Place(tmp_path).score("seedbench", {"1": "A", "2": "B"}, {"s.json": TRUTH})
    assert (found.missing, found.figures["total"]) == (1, 75)
