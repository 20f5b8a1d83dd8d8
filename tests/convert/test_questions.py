"""Questions with short answers: which answer is taken, what is merged, what is left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.convert.official import converted, reasons, refused, said, write

SHORT = "\nAnswer the question using a single word or phrase."


def ten(*answers: str) -> list[dict[str, Any]]:
    """Ten answers as VQA's files have them: those given, the last one repeated."""
    full = [*answers, *[answers[-1]] * (10 - len(answers))]
    return [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(full, start=1)]


def write_vqav2(folder: Path, *, split: str = "train", prefix: str = "v2_") -> Path:
    asked = [(458752000, 458752, "What is\r\nthis photo taken looking through?"), (262146000, 262146, "Is it raining?")]
    asked += [(458752001, 458752, "What position is this man playing?"), (524291000, 524291, " "), (1, 524291, "Why?")]
    questions = [{"image_id": image, "question": text, "question_id": number} for number, image, text in asked]
    annotations = [
        {"image_id": 458752, "question_id": 458752001, "answers": ten("pitcher"), "multiple_choice_answer": "pitcher"},
        {"image_id": 458752, "question_id": 458752000, "answers": ten("net"), "multiple_choice_answer": "net"},
        {"image_id": 262146, "question_id": 262146000, "answers": ten("no"), "multiple_choice_answer": "no"},
        {"image_id": 524291, "question_id": 524291000, "answers": ten("dog"), "multiple_choice_answer": "dog"},
        {"image_id": 9, "question_id": 7, "answers": ten("blue"), "multiple_choice_answer": "blue"},
    ]
    head = {"info": {"version": "2.0"}, "data_subtype": f"{split}2014", "license": {"url": ""}}
    head |= {"data_type": "mscoco"}
    write(folder, f"{prefix}mscoco_{split}2014_annotations.json", {**head, "annotations": annotations})
    head |= {"task_type": "Open-Ended"}
    return write(folder, f"{prefix}OpenEnded_mscoco_{split}2014_questions.json", {**head, "questions": questions})


def test_questions_on_one_picture_are_one_dialogue_that_shows_the_picture_and_the_prompt_once(tmp_path: Path) -> None:
    write_vqav2(tmp_path)
    samples, tally = converted("vqav2", tmp_path)
    assert samples[0]["id"] == "000000458752"
    assert samples[0]["image"] == "coco/train2017/000000458752.jpg"
    assert said(samples[0]) == [
        "<image>\nWhat is this photo taken looking through?" + SHORT,
        "Net",
        "What position is this man playing?",
        "Pitcher",
    ]
    assert said(samples[1]) == ["<image>\nIs it raining?" + SHORT, "No"]
    assert len(samples) == 2
    assert reasons(tally) == {"question_empty": 1, "annotation_missing": 1, "question_missing": 1}
    assert (tally.used, tally.units, tally.turns, len(tally.pictures)) == (3, 6, 3, 2)
    assert "questions 4" in tally.first["annotation_missing"]


def test_the_val_split_has_pictures_of_its_own_and_the_pattern_can_be_changed(tmp_path: Path) -> None:
    write_vqav2(tmp_path, split="val")
    assert converted("vqav2", tmp_path, split="val")[0][0]["image"] == "coco/val2014/COCO_val2014_000000458752.jpg"
    samples, _ = converted("vqav2", tmp_path, split="val", pictures="{split}/{id}.png")
    assert samples[0]["image"] == "val/458752.png"


def test_one_of_the_files_can_be_named(tmp_path: Path) -> None:
    assert len(converted("vqav2", write_vqav2(tmp_path))[0]) == 2


def test_a_question_that_comes_twice_is_asked_once(tmp_path: Path) -> None:
    questions = [{"image_id": 3, "question": "What?", "question_id": 5}] * 2
    annotations = [{"image_id": 3, "question_id": 5, "answers": ten("dog"), "multiple_choice_answer": "dog"}]
    write(tmp_path, "v2_OpenEnded_mscoco_train2014_questions.json", {"questions": questions})
    write(tmp_path, "v2_mscoco_train2014_annotations.json", {"annotations": annotations})
    samples, tally = converted("vqav2", tmp_path)
    assert said(samples[0]) == ["<image>\nWhat?" + SHORT, "Dog"]
    assert reasons(tally) == {"question_duplicate": 1}


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        pytest.param(["race", "race", "car", "car", "car"], "Car", id="majority"),
        pytest.param(["b", "a"] * 5, "B", id="a tie: the one that is given first"),
        pytest.param(["", "", "", " ", "ß", "ß", "", "", "", ""], "ß", id="blank ones do not count"),
        pytest.param(["naïve café"], "Naïve café", id="unicode"),
    ],
)
def test_okvqa_takes_the_majority_of_ten(answers: list[str], chosen: str, tmp_path: Path) -> None:
    write(tmp_path, "OpenEnded_mscoco_train2014_questions.json", {"questions": [
        {"image_id": 51606, "question": "What sport?", "question_id": 516065}]})  # fmt: skip
    write(tmp_path, "mscoco_train2014_annotations.json", {"annotations": [
        {"image_id": 51606, "question_id": 516065, "answers": ten(*answers), "question_type": "four"}]})  # fmt: skip
    samples, _ = converted("okvqa", tmp_path)
    assert said(samples[0]) == ["<image>\nWhat sport?" + SHORT, chosen]


def test_gqa_is_keyed_by_questions_and_merged_by_pictures(tmp_path: Path) -> None:
    question = {"isBalanced": True, "fullAnswer": "It is.", "semantic": [{"operation": "select", "argument": "x"}]}
    write(tmp_path, "train_balanced_questions.json", {
        "07333408": {**question, "imageId": "2375429", "question": "What is on the white wall?", "answer": "pipe"},
        "07333405": {**question, "imageId": "n161313", "question": "Is it light brown?", "answer": "light brown"},
        "15736264": {**question, "imageId": "2375429", "question": "Who?", "answer": ""},
        "111007521": {**question, "imageId": "2375429", "question": "Is the small table oval?", "answer": "yes"},
    })  # fmt: skip
    samples, tally = converted("gqa", tmp_path)
    assert [sample["image"] for sample in samples] == ["gqa/images/2375429.jpg", "gqa/images/n161313.jpg"]
    assert said(samples[0]) == [
        "<image>\nWhat is on the white wall?" + SHORT,
        "Pipe",
        "Is the small table oval?",
        "Yes",
    ]
    assert said(samples[1])[1] == "Light brown"
    assert reasons(tally) == {"answer_empty": 1}
    assert "15736264" in tally.first["answer_empty"]


def write_textvqa(folder: Path) -> None:
    row = {"image_id": "003a8ae2ef43b901", "image_classes": ["Camera"], "set_name": "train"}
    write(folder, "TextVQA_0.5.1_train.json", {"dataset_type": "train", "dataset_version": "0.5.1", "data": [
        {**row, "question": "what is the brand?", "question_id": 1, "answers": ["dakota"] * 6 + ["clos"] * 4},
        {**row, "question": "which year?", "question_id": 2, "answers": ["unanswerable"] * 10},
        {**row, "question": "what number?", "question_id": 3, "answers": ["", "22", "22"]},
        {**row, "image_id": "0f", "question": "who?", "question_id": 4, "answers": ["ana"] * 10},
    ]})  # fmt: skip
    write(folder, "TextVQA_Rosetta_OCR_v0.2_train.json", {"data": [
        {"image_id": "003a8ae2ef43b901", "ocr_tokens": ["DAKOTA", "DIGITAL\nCamera", " ", "8.0"], "ocr_info": []},
        {"image_id": "0f", "ocr_tokens": [], "ocr_info": []},
    ]})  # fmt: skip


def test_textvqa_shows_the_words_of_the_picture_before_the_prompt(tmp_path: Path) -> None:
    write_textvqa(tmp_path)
    samples, tally = converted("textvqa", tmp_path)
    tokens = "\nReference OCR token: DAKOTA, DIGITAL Camera, 8.0"
    assert said(samples[0]) == ["<image>\nWhat is the brand?" + tokens + SHORT, "Dakota", "What number?", "22"]
    assert said(samples[1]) == ["<image>\nWho?" + SHORT, "Ana"]  # no words: no line
    assert samples[0]["image"] == "textvqa/train_images/003a8ae2ef43b901.jpg"
    assert reasons(tally) == {"answer_says_nothing": 1}


def test_without_ocr_textvqa_needs_no_file_of_words(tmp_path: Path) -> None:
    write_textvqa(tmp_path)
    (tmp_path / "TextVQA_Rosetta_OCR_v0.2_train.json").unlink()
    assert said(converted("textvqa", tmp_path, ocr=False)[0][0])[0] == "<image>\nWhat is the brand?" + SHORT
    assert "TextVQA_Rosetta_OCR_v0.2_train.json" in refused("textvqa", tmp_path)


def test_ocrvqa_takes_its_split_and_counts_the_others(tmp_path: Path) -> None:
    book = {"imageURL": "http://ecx.example/x.gif", "title": "Golf", "authorName": "Dick", "genre": "Humor"}
    pair = {"questions": ["Who wrote this?", "What is the title?"], "answers": ["Dick Crouser", "golf anecdotes"]}
    write(tmp_path, "dataset.json", {
        "140031996X": {**book, **pair, "split": 1},
        "1451670761": {**book, **pair, "split": 3},
        "0000000001": {**book, "questions": ["Who?", "What?"], "answers": ["Ann"], "split": 1},
        "0000000002": {**book, "questions": ["Who?", ""], "answers": ["", "x"], "split": 1},
    })  # fmt: skip
    samples, tally = converted("ocrvqa", tmp_path)
    assert [sample["image"] for sample in samples] == ["ocr_vqa/images/140031996X.jpg"]
    assert said(samples[0]) == [
        "<image>\nWho wrote this?" + SHORT, "Dick Crouser", "What is the title?", "Golf anecdotes"]  # fmt: skip
    assert reasons(tally) == {"other_split": 2, "answer_count": 2, "answer_empty": 1, "question_empty": 1}
    assert [sample["id"] for sample in converted("ocrvqa", tmp_path, split="test")[0]] == ["1451670761"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("gqa", {"1": {"question": "What?", "answer": "x"}}, "entry 1: found no key 'imageId'", id="key"),
        pytest.param("gqa", {"1": [1]}, "entry 1: found [1], expected an object", id="no object"),
        pytest.param("gqa", [{"question": 5, "imageId": "1"}], "question: found 5, expected a text", id="type"),
        pytest.param("gqa", '{"1": {"question": "What', ":1: the file ends", id="cut short"),
        pytest.param("gqa", "question\tanswer\n", ":1: found 'q' at the start", id="no JSON"),
        pytest.param("ocrvqa", {"data": [{"image_id": "1"}]}, "entry data: found [", id="of another dataset"),
        pytest.param("textvqa", {"questions": []}, "found no key 'data', only questions", id="another one's"),
        pytest.param("ocrvqa", {"1": {"questions": [], "answers": [], "split": "1"}}, "split: found '1'", id="number"),
    ],
)
def test_a_file_that_is_not_the_official_one_is_refused_with_its_place(
    name: str, content: object, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "given.json", content)
    message = refused(name, path, **({"ocr": False} if name == "textvqa" else {}))
    assert words in message
    assert message.startswith(str(path))


def test_a_missing_split_says_what_is_there(tmp_path: Path) -> None:
    write_vqav2(tmp_path, split="val")
    message = refused("vqav2", tmp_path)
    assert "found no v2_OpenEnded_mscoco_train2014_questions.json" in message
    assert "v2_mscoco_val2014_annotations.json" in message
    assert "--split" in message
