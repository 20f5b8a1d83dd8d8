"""What is uploaded: the servers' formats, with LLaVA's conversion of the answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sightline.evaluate.exam import open_exam
from sightline.evaluate.result_files import read_table
from sightline.evaluate.score import score_files
from sightline.evaluate.submissions import write_submission
from tests.evaluate.exams import make


def upload(task: str, folder: Path, answers: dict[int, str]) -> Any:
    make(task, folder)
    (said,) = write_submission(open_exam(task, folder), answers, folder)
    path = Path(said.split(": ")[0])
    return json.loads(path.read_text()) if path.suffix == ".json" else path


def test_vqav2_takes_n2_and_an_empty_answer_for_what_was_not_asked(tmp_path: Path) -> None:
    assert upload("vqav2", tmp_path, {1: "It's 1,000."}) == [
        {"question_id": 70, "answer": ""},
        {"question_id": 80, "answer": "it 's 1000"},
    ]


def test_vqav2_of_test_dev_has_all_of_test(tmp_path: Path) -> None:
    make("vqav2", tmp_path)
    start = "v2_OpenEnded_mscoco_"
    questions = json.loads((tmp_path / f"{start}val2014_questions.json").read_text())
    (tmp_path / f"{start}val2014_questions.json").rename(tmp_path / f"{start}test-dev2015_questions.json")
    more = {"questions": [*questions["questions"], {"question_id": 90}]}
    (tmp_path / f"{start}test2015_questions.json").write_text(json.dumps(more))
    exam = open_exam("vqav2", tmp_path, split="test-dev")
    write_submission(exam, {0: "Yes", 1: "no"}, tmp_path)
    found = json.loads((tmp_path / "vqav2_upload.json").read_text())
    assert [(row["question_id"], row["answer"]) for row in found] == [(70, "yes"), (80, "no"), (90, "")]


def test_vizwiz_gqa_and_captions(tmp_path: Path) -> None:
    assert upload("vizwiz", tmp_path / "1", {0: "Unanswerable."}) == [
        {"image": "VizWiz_val_00000001.jpg", "answer": "unanswerable"}
    ]
    assert upload("gqa", tmp_path / "2", {0: "Red.."}) == [{"questionId": "0701", "prediction": "red"}]
    assert upload("coco-caption", tmp_path / "3", {0: "A dog."}) == [{"image_id": 11, "caption": "A dog."}]


def test_seedbench_is_lines(tmp_path: Path) -> None:
    path = upload("seedbench", tmp_path, {0: "C", 1: "A"})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"question_id": 4, "prediction": "C"},
        {"question_id": 9, "prediction": "A"},
    ]


def check_sheet(path: Path, folder: Path) -> None:
    """The columns of LLaVA's upload, and a table that our own scorer reads."""
    table = read_table(path)
    assert list(table[0]) == ["index", "question", "A", "B", "C", "D", "prediction", "answer", "split"]
    assert [row["prediction"] for row in table] == ["A", "D", "B", "wrong"]
    assert table[1]["index"] == "1"
    result = score_files("mmbench", [path], [folder / "mmbench_dev_20230712.tsv"])
    assert result.figures["circular"] == 0.5


ANSWERS = {0: "A", 1: "D", 2: "B", 3: "wrong"}


def test_mmbench_without_openpyxl_is_a_table_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    make("mmbench", tmp_path)
    (said,) = write_submission(open_exam("mmbench", tmp_path), ANSWERS, tmp_path)
    assert "pip install 'sightline[sheets]'" in said
    check_sheet(tmp_path / "mmbench_upload.tsv", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl is not installed")
def test_mmbench_is_a_sheet(tmp_path: Path) -> None:
    check_sheet(upload("mmbench", tmp_path, ANSWERS), tmp_path)
