"""ScienceQA: LLaVA's parser, lmms-eval's, the official table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.evaluate.tasks.scienceqa import FAILED, llava_choice, lmms_choice
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("text", "llava", "lmms"),
    [
        ("B", 1, 1),
        ("b", FAILED, 1),
        (" B", FAILED, 1),
        ("B.", FAILED, 1),
        ("B. a cat", 1, 1),
        ("B) a cat", FAILED, FAILED),
        ("(B)", FAILED, FAILED),
        ("The answer is B.", 1, FAILED),
        ("Well. The answer is B!", 1, FAILED),
        ("The answer is B", FAILED, FAILED),  # no character behind the letter
        ("The answer is B\n", FAILED, FAILED),
        ("The answer is A. The answer is B.", FAILED, FAILED),
        ("The answer is Z.", FAILED, FAILED),
        ("D", FAILED, FAILED),  # of three options
        ("D. a cat", FAILED, FAILED),
        ("F", FAILED, FAILED),
        ("", FAILED, FAILED),
        ("AB", FAILED, FAILED),
    ],
)
def test_parsers(text: str, llava: int, lmms: int) -> None:
    assert llava_choice(text, 3) == llava
    assert lmms_choice(text, 3) == lmms


def problem(answer: int, subject: str, grade: int, **fields: Any) -> dict[str, Any]:
    return {
        "question": "?",
        "choices": ["x", "y"],
        "answer": answer,
        "subject": subject,
        "grade": f"grade{grade}",
        "split": "test",
        **fields,
    }


PROBLEMS = {
    "1": problem(0, "natural science", 1, image="image.png", hint=""),
    "2": problem(1, "social science", 6, image=None, hint="told"),
    "3": problem(1, "language science", 12, image=None, hint=""),
    "4": problem(1, "natural science", 7, image="image.png", hint="told"),
    "9": problem(1, "natural science", 7, image=None, hint="", split="val"),
}


def test_the_official_table(tmp_path: Path) -> None:
    results = {"results": {"1": 0, "2": 0, "3": 1, "4": 0}}
    found = Place(tmp_path).score("scienceqa", results, {"p.json": PROBLEMS}).figures
    assert found == {
        "accuracy": 50, "NAT": 50, "SOC": 0, "LAN": 100, "TXT": 0, "IMG": 50, "NO": 100, "G1-6": 50, "G7-12": 50
    }  # fmt: skip


def test_img_is_by_the_recorded_prompt_in_llavas_script(tmp_path: Path) -> None:
    rows = [
        {"question_id": "1", "prompt": "<image>\n?", "text": "A"},
        {"question_id": "2", "prompt": "<image>\n?", "text": "A"},
        {"question_id": "3", "prompt": "?", "text": "nonsense"},
    ]
    place = Place(tmp_path)
    llava = place.score("scienceqa", rows, {"p.json": PROBLEMS}, "llava15", name="a.jsonl")
    assert (llava.figures["accuracy"], llava.figures["IMG"]) == (25, 50)
    assert (llava.missing, llava.unparsable) == (1, 1)
    official = place.score("scienceqa", rows, {"p.json": PROBLEMS}, name="a.jsonl")
    assert (official.figures["accuracy"], official.figures["IMG"]) == (25, 50)
    text_only = [{**row, "prompt": "?"} for row in rows]
    assert place.score("scienceqa", text_only, {"p.json": PROBLEMS}, "llava15", name="a.jsonl").figures["IMG"] is None


def test_pid_splits_choose_the_questions(tmp_path: Path) -> None:
    found = Place(tmp_path).score(
        "scienceqa", {"1": "A", "3": "B"}, {"p.json": PROBLEMS, "s.json": {"test": ["1", "3"]}}
    )
    assert (found.n, found.figures["accuracy"]) == (2, 100)
