"""POPE: what is a no, pairs by id with a check, and sets that make the original divide by zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.evaluate.tasks.pope import says_no
from tests.evaluate.files import Place


@pytest.mark.parametrize(
    ("text", "no"),
    [
        ("No", True),
        ("no", True),
        ("No, there is not.", True),
        ("It is not there", True),
        ("Yes. No", False),  # the first sentence alone
        ("NO", False),
        ("No!", False),
        ("no\n", False),  # single blanks part words
        ("there is nothing", False),
        ("", False),
        ("yes and no.", True),
        (".no", False),
        ("n,o", True),
        ("Yes", False),
    ],
)
def test_what_is_a_no(text: str, no: bool) -> None:
    assert says_no(text) is no


def labels(*values: str, asks: str = "thing") -> list[dict[str, Any]]:
    return [
        {"question_id": n, "image": "a.jpg", "text": f"Is there a {asks} {n}?", "label": value}
        for n, value in enumerate(values, start=1)
    ]


ADVERSARIAL = labels("yes", "no", "yes", "no")
RANDOM = labels("yes", "no", asks="cat")


def test_figures_of_a_set(tmp_path: Path) -> None:
    given = {"1": "Yes", "2": "yes", "3": "no", "4": "no"}
    found = Place(tmp_path).score("pope", given, {"coco_pope_adversarial.jsonl": ADVERSARIAL})
    figures = found.figures["adversarial"]
    assert {name: figures[name] for name in ("tp", "fp", "tn", "fn")} == {"tp": 1, "fp": 1, "tn": 1, "fn": 1}
    assert [figures[name] for name in ("accuracy", "precision", "recall", "f1", "yes_ratio")] == [0.5] * 5
    assert "1 of POPE's three sets" in found.notes[0]


@pytest.mark.parametrize(
    ("answers", "wanted", "nulls"),
    [
        (["no", "no"], ["yes", "no"], ("precision", "f1")),
        (["no", "yes"], ["no", "no"], ("recall", "f1")),
        (["no", "yes"], ["yes", "no"], ("f1",)),
    ],
)
def test_a_division_by_zero_is_null(
    tmp_path: Path, answers: list[str], wanted: list[str], nulls: tuple[str, ...]
) -> None:
    given = {str(number): text for number, text in enumerate(answers, start=1)}
    found = Place(tmp_path).score("pope", given, {"coco_pope_random.jsonl": labels(*wanted)})
    assert {name for name, value in found.figures["random"].items() if value is None} == set(nulls)
    assert found.figures["mean_f1"] is None


def test_answers_without_ids_are_paired_by_position_if_their_questions_agree(tmp_path: Path) -> None:
    place, truths = Place(tmp_path), {"coco_pope_random.jsonl": RANDOM}
    rows = [{"question": label["text"], "answer": label["label"]} for label in RANDOM]
    assert place.score("pope", rows, truths, name="a.jsonl").figures["mean_f1"] == 1
    with pytest.raises(DataError, match="asks 'Is there a cat 2"):
        place.score("pope", rows[::-1], truths, name="a.jsonl")
    with pytest.raises(DataError, match="1 answers to 2 labels"):
        place.score("pope", rows[:1], truths, name="a.jsonl")


def test_llavas_question_file_says_which_set_an_id_is_of(tmp_path: Path) -> None:
    files = {"coco_pope_adversarial.jsonl": ADVERSARIAL, "coco_pope_random.jsonl": RANDOM}
    ordered = [("adversarial", label) for label in ADVERSARIAL] + [("random", label) for label in RANDOM]
    asked = [
        {
            "question_id": n,
            "image": "a.jpg",
            "text": f"{label['text']}\nAnswer the question using a single word or phrase.",
            "category": name,
        }
        for n, (name, label) in enumerate(ordered, start=1)
    ]
    answers = [
        {"question_id": n, "prompt": asked[n - 1]["text"], "text": label["label"]}
        for n, (_, label) in enumerate(ordered, 1)
    ]
    found = Place(tmp_path).score("pope", answers, {**files, "llava_pope_test.jsonl": asked}, name="a.jsonl")
    assert (found.figures["mean_f1"], found.missing) == (1, 0)
    backwards = {**files, "coco_pope_random.jsonl": RANDOM[::-1]}
    with pytest.raises(DataError, match="in another order"):
        Place(tmp_path).score("pope", answers, {**backwards, "llava_pope_test.jsonl": asked}, name="a.jsonl")


def test_labels_of_another_version_are_seen_in_the_prompts(tmp_path: Path) -> None:
    answers = [
        {
            "question_id": 10_000_001,
            "prompt": "Is there a kat 1?\nAnswer the question using a single word or phrase.",
            "text": "yes",
        }
    ]
    with pytest.raises(DataError, match="commit e3e39262"):
        Place(tmp_path).score("pope", answers, {"coco_pope_random.jsonl": RANDOM}, name="a.jsonl")


def test_lmms_takes_yes_and_no_alone(tmp_path: Path) -> None:
    given = {"1": " YES", "2": "No.", "3": "no", "4": "yes"}
    found = Place(tmp_path).score("pope", given, {"coco_pope_adversarial.jsonl": ADVERSARIAL}, "lmms")
    figures = found.figures["all"]
    assert found.unparsable == 1
    assert (figures["accuracy"], figures["precision"], figures["recall"]) == (0.25, 0.5, 0.5)
    assert figures["yes_ratio_of_labels"] == 0.5
