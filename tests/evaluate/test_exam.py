"""From each benchmark's official files to a score: who answers rightly has every point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.data.image import check_image
from sightline.errors import DataError
from sightline.evaluate.asks import ASKS, number
from sightline.evaluate.evaluation import Options, evaluate_exam, headline
from sightline.evaluate.exam import open_exam
from sightline.evaluate.tasks.registry import TASKS
from tests.evaluate import exams
from tests.evaluate.exams import Parrot, make

BEST = {"pope": 1.0, "mme": 200.0, "mmbench": 1.0, "mmbench-cn": 1.0, "coco-caption": 10.0, "textcaps": 10.0}
PAINTED = {"probes", "typographic"}
SCORED = sorted(ASKS.keys() - {"llava-bench", "llava-bench-coco", "mmvet", "chair", *PAINTED})


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize("task", SCORED)
def test_right_answers_to_the_official_files_have_every_point(task: str, tmp_path: Path) -> None:
    right = make(task, tmp_path / "data")
    exam = open_exam(task, tmp_path / "data")
    assert len(exam.questions) == len(right)
    parrot = Parrot(dict(enumerate(right.values())))
    outcome = evaluate_exam(exam, parrot, tmp_path / "out", Options(), say=quiet)
    assert outcome is not None
    assert outcome.results.keys() == TASKS[task].protocols.keys()
    for name, result in outcome.results.items():
        assert (result.answered, result.missing, result.extra, result.unparsable) == (len(right), 0, 0, 0), name
        best = 400.0 if task == "mme" else BEST.get(task, 100.0)
        assert headline(result) == (pytest.approx(best if task != "mme" else 400.0), True)


@pytest.mark.parametrize("task", SCORED)
def test_every_question_has_the_picture_that_its_files_name(task: str, tmp_path: Path) -> None:
    make(task, tmp_path)
    exam = open_exam(task, tmp_path)
    for question, one in zip(exam.questions, exam.asked, strict=True):
        if task == "scienceqa" and not question.image:
            assert one.pictures == ()
            continue
        assert one.pictures
        assert {check_image(picture)[1] for picture in one.pictures} == {40}


def test_pictures_may_be_shared_by_several_benchmarks(tmp_path: Path) -> None:
    make("vqav2", tmp_path / "vqav2")
    (tmp_path / "vqav2" / "val2014").rename(tmp_path / "val2014")
    assert {
        picture.parent
        for one in open_exam("vqav2", tmp_path).asked
        for picture in one.pictures
        if isinstance(picture, Path)
    } == {tmp_path / "val2014"}


def rows(task: str, folder: Path) -> list[dict[str, Any]]:
    make(task, folder)
    return open_exam(task, folder).rows


def test_rows_have_llavas_ids_and_prompts(tmp_path: Path) -> None:
    short = "\nAnswer the question using a single word or phrase."
    letter = "\nAnswer with the option's letter from the given choices directly."
    assert rows("vqav2", tmp_path / "1")[0] == {"question_id": 70, "prompt": f"Why 7?{short}"}
    assert rows("gqa", tmp_path / "2")[0]["question_id"] == "0701"
    assert rows("textvqa", tmp_path / "3")[0] == {
        "question_id": "ab1",
        "prompt": f"What says it?\nReference OCR token: STOP, GO{short}",
    }
    science = rows("scienceqa", tmp_path / "4")
    assert science[0]["prompt"] == f"<image>\nContext: Look.\nWhich?\nA. one\nB. two{letter}"
    assert science[1]["prompt"] == f"What?\nA. one\nB. two{letter}"
    assert [row["question_id"] for row in rows("pope", tmp_path / "5")] == [
        1,
        2,
        20000001,
        20000002,
        10000001,
        10000002,
    ]
    assert rows("mme", tmp_path / "6")[0] == {
        "question_id": "OCR/1",
        "prompt": f"Is it a?{short}",
        "category": "OCR",
    }
    assert rows("mmbench", tmp_path / "7")[0] == {"question_id": 0, "prompt": "Look.\nWhat?\nA. cat\nB. dog"}
    assert [row["question_id"] for row in rows("seedbench", tmp_path / "8")] == [4, 9]


def test_the_model_is_given_what_the_row_leaves_out(tmp_path: Path) -> None:
    make("mmbench-cn", tmp_path)
    exam = open_exam("mmbench-cn", tmp_path)
    assert exam.asked[0].prompt == exam.rows[0]["prompt"] + "\n请直接回答选项字母。"
    make("scienceqa", tmp_path)
    exam = open_exam("scienceqa", tmp_path)
    assert "<image>\n" + exam.asked[0].prompt == exam.rows[0]["prompt"]


def test_textvqa_without_its_tokens_says_so(tmp_path: Path) -> None:
    make("textvqa", tmp_path)
    assert open_exam("textvqa", tmp_path).notes == ()
    (tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json").unlink()
    exam = open_exam("textvqa", tmp_path)
    assert "asked without OCR tokens" in exam.notes[0]
    assert "OCR" not in exam.asked[0].prompt


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        (
            "questions.jsonl",
            [{"question_id": 0, "image": "001.jpg", "text": "What?", "category": "conv"}],
            "llava-bench",
        ),
        ("mm-vet.json", {"v1_0": {"imagename": "001.jpg", "question": "What?", "capability": ["ocr"]}}, "mmvet"),
    ],
)
def test_what_a_judge_scores_is_asked_without_a_suffix(name: str, content: Any, task: str, tmp_path: Path) -> None:
    exams.Place(tmp_path).write(name, content)
    exams.picture(tmp_path / "images" / "001.jpg", 1)
    exam = open_exam(task, tmp_path)
    assert (exam.asked[0].prompt, exam.max_new_tokens, exam.truths) == ("What?", 1024, [])
    outcome = evaluate_exam(exam, Parrot({0: "A dog."}), tmp_path / "out", Options(), say=quiet)
    assert outcome is not None
    assert outcome.result is None
    assert any("no score" in note for note in outcome.notes)
    assert json.loads((tmp_path / "out" / "answers.jsonl").read_text())["text"] == "A dog."


def test_a_split_without_truths_is_asked_and_not_scored(tmp_path: Path) -> None:
    make("vqav2", tmp_path)
    (tmp_path / "v2_mscoco_val2014_annotations.json").unlink()
    exam = open_exam("vqav2", tmp_path)
    assert exam.truths == []


@pytest.mark.parametrize(("text", "expected"), [("7", 7), ("07", "07"), ("v1_7", "v1_7"), ("", ""), ("²", "²")])
def test_ids_that_are_numbers_are_numbers(text: str, expected: int | str) -> None:
    assert number(text) == expected


def test_missing_pictures_are_counted_and_named(tmp_path: Path) -> None:
    make("vqav2", tmp_path)
    (tmp_path / "val2014" / "COCO_val2014_000000000008.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the pictures are not in it or below, 8 first"):
        open_exam("vqav2", tmp_path)


def test_a_table_without_pictures_is_refused(tmp_path: Path) -> None:
    make("mmbench", tmp_path)
    path = tmp_path / "mmbench_dev_20230712.tsv"
    lines = path.read_text().split("\n")
    cells = lines[1].split("\t")
    path.write_text("\n".join([lines[0], "\t".join([*cells[:9], "not base64!", *cells[10:]])]))
    with pytest.raises(DataError, match="index 0: its image is not base64"):
        open_exam("mmbench", tmp_path)
    path.write_text("\n".join([lines[0], "\t".join([*cells[:9], "", *cells[10:]])]))
    with pytest.raises(DataError, match="0: no picture in its cell image"):
        open_exam("mmbench", tmp_path)


def test_an_unknown_task_is_told_with_its_neighbor(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no task 'vqa2'; did you mean .vqav2"):
        open_exam("vqa2", tmp_path)
