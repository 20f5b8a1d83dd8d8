"""LLaVA-Bench's judge: what it is shown, what becomes of what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.ask.question import Question
from sightline.errors import DataError
from sightline.evaluate.judge.asking import prompt_file
from sightline.evaluate.judge.llava_bench import COCO, WILD, read_items, request, review, scores_of
from sightline.evaluate.score import score_files
from tests.evaluate.judge.helpers import desk, lines, wild

RULES = prompt_file("llava_bench.json", None)


def fair(shown: str, asked: Question) -> str:
    """Gives the reference 8 and the candidate 6, wherever they stand."""
    return "8 6\nWell." if shown.index("reference") < shown.index("candidate") else "6 8\nWell."


def first_wins(shown: str, asked: Question) -> str:
    return "9 7\nThe first is better."


def test_request_is_built_as_the_original_builds_it(tmp_path: Path) -> None:
    items, _ = read_items(tmp_path, wild(tmp_path), WILD)
    rule = {"role": "Assistant", "prompt": "Grade them."}
    assert request(items[1], rule, swapped=False) == (
        "[Context]\nScene 1.\n\n[Question]\nQuestion 1?\n\n"
        "[Assistant 1]\nreference 1\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\ncandidate 1\n\n[End of Assistant 2]\n\n"
        "[System]\nGrade them.\n\n"
    )
    assert "[Assistant 1]\ncandidate 1\n" in request(items[1], rule, swapped=True)
    assert items[1].category == "llava_bench_detail"


def test_context_of_coco_has_captions_then_boxes(tmp_path: Path) -> None:
    lines(tmp_path / COCO.questions, [{"question_id": 0, "image": "a.jpg", "text": "What?", "category": "conv"}])
    boxes = [{"category": "dog", "bbox": [1, 2, 3, 4]}, {"category": "cat", "bbox": [5, 6, 7, 8]}]
    lines(tmp_path / COCO.contexts, [{"image": "a.jpg", "captions": ["A dog.", "A cat."], "instances": boxes}])
    lines(tmp_path / COCO.reference, [{"question_id": 0, "text": "r"}])
    items, _ = read_items(tmp_path, lines(tmp_path / "answers.jsonl", [{"question_id": 0, "text": "a"}]), COCO)
    assert items[0].context == "A dog.\nA cat.\n\ndog: [1, 2, 3, 4]\ncat: [5, 6, 7, 8]"
    assert items[0].category == "conv"


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("8 6\nBecause.", (8, 6)),
        ("8,6", (8, 6)),
        ("8, 6", (-1, -1)),  # two blanks: three parts, as the original counts
        ("8.5 10", (8.5, 10)),
        ("Assistant 1: 8", (-1, -1)),
        ("8 11", (-1, -1)),
        ("nan 3", (-1, -1)),
        ("8 six", (-1, -1)),
    ],
)
def test_scores_of_a_review(text: str, scores: tuple[float, float]) -> None:
    assert scores_of(text) == scores


def test_reviews_feed_the_scorer(tmp_path: Path) -> None:
    items, missing = read_items(tmp_path, wild(tmp_path), WILD)
    found = review(items, RULES, desk(tmp_path / "run", fair))
    path = lines(tmp_path / "reviews.jsonl", found.rows)
    result = score_files("llava-bench", [path], [tmp_path / "questions.jsonl"])
    assert (missing, found.failed, result.figures["relative"]) == ([], 0, 75.0)
    assert found.rows[2]["answer1_id"] == "ref2"
    assert found.rows[2]["answer2_id"] == "own2"


def test_swapping_takes_out_what_standing_first_is_worth(tmp_path: Path) -> None:
    items, _ = read_items(tmp_path, wild(tmp_path), WILD)
    plain = review(items, RULES, desk(tmp_path / "plain", first_wins))
    swapped = review(items, RULES, desk(tmp_path / "swapped", first_wins), swap=True)
    assert [row["tuple"] for row in plain.rows] == [[9, 7]] * 3
    assert [row["tuple"] for row in swapped.rows] == [[8, 8]] * 3
    assert (plain.lean, swapped.lean) == (None, 2)
    assert review(items, RULES, desk(tmp_path / "fair", fair), swap=True).lean == 0


def test_failed_review_is_counted_and_not_averaged_in_but_llava15_has_minus_one(tmp_path: Path) -> None:
    def shy(shown: str, asked: Question) -> str:
        return "Both are fine." if "candidate 0" in shown else fair(shown, asked)

    items, _ = read_items(tmp_path, wild(tmp_path), WILD)
    found = review(items, RULES, desk(tmp_path / "run", shy))
    path = lines(tmp_path / "reviews.jsonl", found.rows)
    truth = [tmp_path / "questions.jsonl"]
    official, original = (score_files("llava-bench", [path], truth, protocol=name) for name in ("official", "llava15"))
    assert found.failed == official.unparsable == 1
    assert (official.figures["relative"], official.figures["model"]) == (75.0, 60.0)
    assert original.figures["model"] == 36.7

    def shy_at_first(shown: str, asked: Question) -> str:
        return shy(shown, asked) if shown.index("reference") < shown.index("candidate") else "8 8"

    half = review(items, RULES, desk(tmp_path / "half", shy_at_first), swap=True)
    assert half.rows[0]["tuple"] == [-1, -1], "half of a swapped pair is no review"


def test_asking_again_is_not_paid_again_and_runs_are_asked_apart(tmp_path: Path) -> None:
    items, _ = read_items(tmp_path, wild(tmp_path), WILD)
    judge = desk(tmp_path / "run", fair)
    first = review(items, RULES, judge)
    calls = judge.teacher.calls  # type: ignore[attr-defined]
    assert review(items, RULES, judge) == first
    assert len(calls) == 3
    review(items, RULES, judge, run=2)
    assert len(calls) == 6


def test_question_without_an_answer_is_named(tmp_path: Path) -> None:
    items, missing = read_items(tmp_path, wild(tmp_path, answered=2), WILD)
    assert ([item.id for item in items], missing) == ([0, 1], ["2"])


def test_rules_of_the_original_file_are_taken_and_a_lacking_category_is_named(tmp_path: Path) -> None:
    items, _ = read_items(tmp_path, wild(tmp_path), WILD)
    path = tmp_path / "rule.json"
    path.write_text(json.dumps({"llava_bench_conv": {"role": "Bot", "prompt": "Go."}}))
    with pytest.raises(DataError, match="no rule for category llava_bench_detail"):
        review(items, prompt_file("llava_bench.json", path), desk(tmp_path / "run", fair))
    found = review(items[:1], prompt_file("llava_bench.json", path), desk(tmp_path / "own", lambda shown, asked:
                   "1 2" if "[Bot 2]\ncandidate 0\n\n[End of Bot 2]\n\n[System]\nGo." in shown else "9 9"))  # fmt: skip
    assert found.rows[0]["tuple"] == [1, 2]


def test_answers_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    wild(tmp_path)
    with pytest.raises(DataError, match="no answer is to a question of"):
        read_items(tmp_path, lines(tmp_path / "other.jsonl", [{"question_id": "x", "text": "y"}]), WILD)
