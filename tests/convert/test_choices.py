"""Questions with options: every letter right once, and ScienceQA's three prompts to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.convert.official import converted, reasons, refused, said, write

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."

ASKED: dict[str, Any] = {
    "split": "train",
    "image_id": 299207,
    "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man by the bags awaiting?",
    "choices": ["skateboarder", "train", "delivery", "cab"],
    "correct_choice_idx": 3,
    "direct_answers": ["ride", "ride", "bus", "taxi", "travelling", "traffic", "taxi", "cab", "cab", "ride"],
    "difficult_direct_answer": False,
    "rationales": ["He has luggage."],
}


def test_each_question_is_asked_once_for_each_place_of_the_right_option(tmp_path: Path) -> None:
    other = {**ASKED, "question_id": "2", "question": "Who?", "choices": ["a", "b", "c", "d"], "correct_choice_idx": 0}
    write(tmp_path, "aokvqa_v1p0_train.json", [ASKED, other])
    samples, tally = converted("aokvqa", tmp_path)
    first = "<image>\nWhat is the man by the bags awaiting?\nA. skateboarder\nB. train\nC. delivery\nD. cab" + LETTER
    assert said(samples[0]) == [first, "D", "Who?\nA. a\nB. b\nC. c\nD. d", "A"]
    assert said(samples[1])[:2] == [
        "<image>\nWhat is the man by the bags awaiting?\nA. train\nB. delivery\nC. cab\nD. skateboarder" + LETTER, "C"
    ]  # fmt: skip
    assert sorted(said(sample)[1] for sample in samples) == ["A", "B", "C", "D"]
    assert [sample["id"] for sample in samples] == ["000000299207"] + [f"000000299207#{n}" for n in (2, 3, 4)]
    assert (tally.samples, tally.used, tally.units, tally.turns) == (4, 2, 2, 8)


def test_direct_answers_are_the_majority_of_ten(tmp_path: Path) -> None:
    write(tmp_path, "aokvqa_v1p0_train.json", [ASKED, {**ASKED, "direct_answers": []}])
    samples, tally = converted("aokvqa", tmp_path, answers="direct")
    assert [said(sample) for sample in samples] == [["<image>\nWhat is the man by the bags awaiting?" + SHORT, "Ride"]]
    assert reasons(tally) == {"answer_empty": 1}
    samples, tally = converted("aokvqa", tmp_path, answers="both")
    assert [said(sample)[1] for sample in samples] == ["D", "C", "B", "A", "Ride"]
    assert (tally.used, tally.units) == (3, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": " "}, "question_empty"),
        ({"choices": ["a", "", "c", "d"]}, "choice_empty"),
        ({"choices": ["a"]}, "choice_empty"),
        ({"correct_choice_idx": 4}, "answer_not_a_choice"),
        ({"correct_choice_idx": -1}, "answer_not_a_choice"),
    ],
)
def test_a_question_that_cannot_be_asked_is_counted(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write(tmp_path, "aokvqa_v1p0_train.json", [ASKED, {**ASKED, **change}])
    assert reasons(converted("aokvqa", tmp_path)[1]) == {reason: 1}


PROBLEM: dict[str, Any] = {
    "question": "Which is  south?",
    "choices": ["Iowa", "Texas"],
    "answer": 1,
    "hint": "",
    "image": "image.png",
    "task": "closed choice",
    "grade": "grade2",
    "subject": "social science",
    "lecture": "Maps have four\ndirections.",
    "solution": "Texas is\\nfarthest south.",
    "split": "train",
}


def write_scienceqa(folder: Path) -> None:
    text = {**PROBLEM, "image": None, "hint": "Look at\nthe list.", "lecture": "", "question": "Which?"}
    write(folder, "problems.json", {"1": PROBLEM, "2": text, "3": PROBLEM})
    write(folder, "pid_splits.json", {"train": ["2", "1", "99"], "test": ["3"], "minitrain": []})


@pytest.mark.parametrize(
    ("prompt", "seen", "read"),
    [
        pytest.param(
            "CQM-A",
            ["<image>\nWhich is  south?\nA. Iowa\nB. Texas" + LETTER, "B"],
            ["Context: Look at\nthe list.\nWhich?\nA. Iowa\nB. Texas" + LETTER, "B"],
            id="CQM-A: a hint only where there is one",
        ),
        pytest.param(
            "QCM-A",
            ["<image>\nWhich is south?\nContext: N/A\nOptions: (A) Iowa (B) Texas", "The answer is B."],
            ["Which?\nContext: Look at\nthe list.\nOptions: (A) Iowa (B) Texas", "The answer is B."],
            id="QCM-A",
        ),
        pytest.param(
            "QCM-LEA",
            [
                "<image>\nWhich is south?\nContext: N/A\nOptions: (A) Iowa (B) Texas",
                "Maps have four\ndirections. Texas is\nfarthest south. The answer is B.",
            ],
            [
                "Which?\nContext: Look at\nthe list.\nOptions: (A) Iowa (B) Texas",
                "Texas is\nfarthest south. The answer is B.",
            ],
            id="QCM-LEA: no lecture",
        ),
    ],
)
def test_scienceqa_is_asked_as_in_the_original(prompt: str, seen: list[str], read: list[str], tmp_path: Path) -> None:
    write_scienceqa(tmp_path)
    samples, tally = converted("scienceqa", tmp_path, prompt=prompt)
    assert [sample["id"] for sample in samples] == ["2", "1"]  # in the order of the splits' file
    assert said(samples[1]) == seen
    assert said(samples[0]) == read
    assert samples[1]["image"] == "scienceqa/1/image.png"
    assert "image" not in samples[0]
    assert reasons(tally) == {"problem_missing": 1}


@pytest.mark.parametrize(("split", "words"), [("val", "found no list under 'val'"), ("validation", "--split")])
def test_scienceqa_without_the_split_is_refused(split: str, words: str, tmp_path: Path) -> None:
    write_scienceqa(tmp_path)
    assert words in refused("scienceqa", tmp_path, split=split)
