"""MM-Vet's grader: what it is shown, and when it is asked again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.ask.question import Question
from sightline.ask.teacher import Unanswerable
from sightline.errors import DataError
from sightline.evaluate.judge.asking import prompt_file
from sightline.evaluate.judge.mm_vet import TEMPERATURES, Item, grade, grade_of, read_items, request
from sightline.evaluate.score import score_files
from tests.ask.helpers import PlainTeacher
from tests.evaluate.judge.helpers import desk, lines

PROMPT = prompt_file("mm_vet.txt", None)
ITEMS = [Item("v1_0", "What?", "a <AND> b", "a"), Item("v1_1", "Who?", "c", "c")]


def files(folder: Path) -> tuple[Path, Path]:
    truth = folder / "mm-vet.json"
    truth.write_text(json.dumps({
        "v1_0": {"question": "What?", "answer": "a<AND>b", "capability": ["rec"]},
        "v1_1": {"question": "Who?", "answer": "c", "capability": ["ocr", "rec"]},
        "v1_2": {"question": "Why?", "answer": "d", "capability": ["ocr"]},
    }))  # fmt: skip
    return truth, lines(folder / "answers.jsonl", [{"question_id": n, "text": f"answer {n}"} for n in (1, 0)])


def test_answers_of_llava_and_submissions_are_read_alike(tmp_path: Path) -> None:
    truth, answers = files(tmp_path)
    items, missing = read_items(truth, answers)
    assert items == [Item("v1_0", "What?", "a <AND> b", "answer 0"), Item("v1_1", "Who?", "c", "answer 1")]
    assert missing == ["v1_2"]
    upload = tmp_path / "upload.json"
    upload.write_text(json.dumps({"v1_0": "answer 0", "v1_1": "answer 1"}))
    assert read_items(truth, upload) == (items, missing)
    with pytest.raises(DataError, match="no answer is to a question of"):
        read_items(truth, lines(tmp_path / "other.jsonl", [{"question_id": "z", "text": "y"}]))


def test_request_ends_with_an_open_line_of_the_table() -> None:
    assert request(ITEMS[0], PROMPT).splitlines()[-1] == "What? | a <AND> b | a | "


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("1.0 | all", 1.0), ("0", 0.0), ("2", None), ("good", None), ("nan", None)]
)
def test_grade_is_the_first_word(text: str, value: float | None) -> None:
    assert grade_of(text) == value


def test_grades_feed_the_scorer(tmp_path: Path) -> None:
    truth, answers = files(tmp_path)
    items, _ = read_items(truth, answers)
    found = grade(
        items, PROMPT, desk(tmp_path / "run", lambda shown, asked: "0.5" if "| answer 0 |" in shown else "1.0"), runs=2
    )
    path = tmp_path / "grades.json"
    path.write_text(json.dumps(found.entries))
    result = score_files("mmvet", [path], [truth])
    assert result.missing == 1
    assert result.answered_only is not None
    assert result.answered_only["total"] == 75.0
    assert result.answered_only["runs"] == [75.0, 75.0]


def test_unreadable_grade_is_asked_for_again_warmer_and_then_is_zero(tmp_path: Path) -> None:
    def late(shown: str, asked: Question) -> str:
        return "0.7" if "| c | c |" in shown and asked.temperature >= 0.8 else "I think it is right"

    judge = desk(tmp_path / "run", late)
    found = grade(ITEMS, PROMPT, judge)
    assert found.entries["v1_1"]["score"] == [0.7]
    assert found.entries["v1_0"] == {"model": ["judge-1"], "content": ["I think it is right"], "score": [0.0]}
    assert (found.failed, found.silent) == (1, 0)
    assert len(judge.teacher.calls) == len(TEMPERATURES) + 3  # type: ignore[attr-defined]


def test_question_without_any_reply_has_no_entry(tmp_path: Path) -> None:
    def speak(asked: Question, ask: int, attempt: int) -> str | Exception:
        return "1.0" if "| c | c |" in asked.messages[-1].content else Unanswerable("content_filter")

    judge = desk(tmp_path / "run", lambda shown, asked: "", teacher=PlainTeacher(speak))
    found = grade(ITEMS, PROMPT, judge)
    assert (list(found.entries), found.silent) == (["v1_1"], 1)
