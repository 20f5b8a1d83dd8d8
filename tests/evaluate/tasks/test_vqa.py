"""VQAv2, OK-VQA, VizWiz: what an answer is worth against ten, and under whose rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.evaluate.tasks.vqa import leave_one_out, lmms_vqav2_accuracy, n2_accuracy, official_accuracy
from tests.evaluate.files import Place


@pytest.mark.parametrize(("matching", "value"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_leave_one_out_of_ten(matching: int, value: float) -> None:
    assert leave_one_out(matching, 10) == pytest.approx(value, abs=1e-12)


def test_leave_one_out_of_another_number() -> None:
    assert leave_one_out(1, 1) == 0
    assert leave_one_out(0, 0) == 0
    assert leave_one_out(2, 3) == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)


@pytest.mark.parametrize(
    ("given", "answers", "official", "lmms", "n2"),
    [
        ("Yes", ["yes"] * 10, 0, 1, 1),  # unanimous: literal, in upper and lower case
        ("2", ["two"] * 10, 0, 0, 1),
        ("two", ["two"] * 10, 1, 0, 1),
        ("yes\n", ["yes "] * 10, 1, 1, 1),  # only blanks at the ends go
        ("Yes", ["yes"] * 9 + ["no"], 1, 1, 1),
        ("two", ["2"] * 3 + ["3"] * 7, 0.9, 0.9, 0.9),
        ("man's hat", ["man's hat"] * 5 + ["hat"] * 5, 1, 0, 1),  # N2 parts the 's, N1 on the annotators does not
        ("the", ["a"] * 5 + ["b"] * 5, 1, 1, 1),  # both are nothing
        ("t shirt", ["t-shirt"] * 2 + ["shirt"] * 8, 0.6, 0.6, 0.6),
        ("cat", [], 0, 0, 0),
    ],
)
def test_rules(given: str, answers: list[str], official: float, lmms: float, n2: float) -> None:
    assert official_accuracy(given, answers) == pytest.approx(official)
    assert lmms_vqav2_accuracy(given, answers) == pytest.approx(lmms)
    assert n2_accuracy(given, answers) == pytest.approx(n2)


def truth(number: int, answers: list[str], kind: str = "other", question: str = "what") -> dict[str, Any]:
    return {
        "question_id": number,
        "image_id": number,
        "question_type": question,
        "answer_type": kind,
        "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(answers)],
    }


ANNOTATIONS = {
    "annotations": [
        truth(1, ["yes"] * 10, "yes/no", "is"),
        truth(2, ["man's hat"] * 5 + ["hat"] * 5),
        truth(3, ["2"] * 3 + ["3"] * 7, "number", "how many"),
    ]
}
GIVEN = [(1, "Yes"), (2, "man's hat"), (3, "2")]


@pytest.mark.parametrize(
    ("protocol", "values"), [("official", [0, 1, 0.9]), ("llava15", [1, 0, 0.9]), ("lmms", [1, 0, 0.9])]
)
def test_vqav2_by_protocol_and_by_type(tmp_path: Path, protocol: str, values: list[float]) -> None:
    answers = [{"question_id": number, "text": text} for number, text in GIVEN]
    found = Place(tmp_path).score("vqav2", answers, {"a.json": ANNOTATIONS}, protocol, name="a.jsonl")
    assert list(found.values.values()) == pytest.approx(values)
    assert found.figures["overall"] == pytest.approx(100 * sum(values) / 3)
    assert found.figures["per_answer_type"]["number"] == pytest.approx(90)
    assert found.figures["per_question_type"]["is"] == 100 * values[0]


@pytest.mark.parametrize(
    "answers",
    [
        [{"question_id": number, "answer": text} for number, text in GIVEN],
        {str(number): text for number, text in GIVEN},
        [{"question_id": str(number), "prediction": text} for number, text in GIVEN],
    ],
)
def test_shapes_of_answers(tmp_path: Path, answers: Any) -> None:
    found = Place(tmp_path).score("vqav2", answers, {"a.json": ANNOTATIONS})
    assert found.figures["overall"] == pytest.approx(100 * 1.9 / 3)


def test_a_missing_answer_is_empty_to_llava_and_refused_by_the_evaluator(tmp_path: Path) -> None:
    place, answers = Place(tmp_path), {"1": "yes", "2": "hat"}
    llava = place.score("vqav2", answers, {"a.json": ANNOTATIONS}, "llava15")
    assert (llava.missing, llava.figures["overall"]) == (1, pytest.approx(200 / 3))
    official = place.score("vqav2", answers, {"a.json": ANNOTATIONS})
    assert official.figures["overall"] is None
    assert official.figures["per_answer_type"] == {"other": None, "yes/no": None}
    assert official.answered_only is not None
    assert official.answered_only["overall"] == 100


def test_okvqa_is_scored_by_the_vqa_evaluator(tmp_path: Path) -> None:
    """Each of five annotators' answers stands there twice: of five, one gives 0.6, two give 1."""
    answers = {
        "annotations": [truth(1, ["surf", "surf", *["ski"] * 4, *["swim"] * 4]), truth(2, ["run"] * 4 + ["jog"] * 6)]
    }
    found = Place(tmp_path).score("okvqa", {"1": "surf", "2": "run"}, {"a.json": answers})
    assert list(found.values.values()) == pytest.approx([0.6, 1])


def test_vizwiz_pairs_by_picture_or_by_its_number(tmp_path: Path) -> None:
    truths = [
        {
            "image": f"VizWiz_val_0000000{number}.jpg",
            "question": "What?",
            "answers": [{"answer": answer, "answer_confidence": "yes"}] * 10,
            "answer_type": kind,
            "answerable": 1,
        }
        for number, answer, kind in ((1, "unanswerable", "unanswerable"), (2, "can", "other"))
    ]
    place = Place(tmp_path)
    uploaded = [
        {"image": "VizWiz_val_00000001.jpg", "answer": "unanswerable"},
        {"image": "VizWiz_val_00000002.jpg", "answer": "a can"},
    ]
    found = place.score("vizwiz", uploaded, {"val.json": truths})
    assert found.figures == {"overall": 50, "per_answer_type": {"other": 0, "unanswerable": 100}}
    llava = [{"question_id": 1, "text": "Unanswerable"}, {"question_id": 2, "text": "A can"}]
    assert place.score("vizwiz", llava, {"val.json": truths}).figures["overall"] == 0
    assert place.score("vizwiz", llava, {"val.json": truths}, "llava15").figures["overall"] == 100
