"""How answers lean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.evaluate.leanings import by_position, yes_no
from tests.command_line import Captured, sightline
from tests.evaluate.judge.helpers import lines


def test_yes_sayer_has_an_excess() -> None:
    assert yes_no([("yes", "yes"), ("yes", "no"), ("yes", "no"), ("no", "no")]) == {
        "yes_ratio": 0.75, "yes_ratio_of_truth": 0.25, "yes_excess": 0.5, "yes_to_yes": 1,
        "yes_to_no": pytest.approx(2 / 3), "other": 0,
    }  # fmt: skip
    silent = yes_no([("other", "yes"), ("no", "no")])
    assert (silent["yes_excess"], silent["other"]) == (-0.5, 1)
    assert yes_no([])["yes_excess"] is None


def test_who_always_takes_the_first_option_is_right_only_there() -> None:
    found = by_position([("A", "A"), ("A", "A"), ("B", "A"), ("C", None)])
    assert found["A"] == {"n": 2, "accuracy": 1, "share_right": 0.5, "share_chosen": 0.75}
    assert found["B"] == {"n": 1, "accuracy": 0, "share_right": 0.25, "share_chosen": 0}
    assert found["spread"] == pytest.approx(47.1404520791)
    assert by_position([("A", "A"), ("B", "B")])["spread"] == 0
    assert by_position([]) == {"spread": None}


def test_score_shows_leanings_beside_the_figures(tmp_path: Path, capsys: Captured) -> None:
    truth = lines(tmp_path / "coco_pope_random.json", [
        {"question_id": n, "image": "a.jpg", "text": f"Is there a {n}?", "label": "yes" if n % 2 else "no"}
        for n in range(1, 5)])  # fmt: skip
    answers = lines(tmp_path / "answers.jsonl", [{"question_id": n, "text": "Yes"} for n in range(1, 5)])
    command = ("score", "pope", "--predictions", answers, "--annotations", truth)
    assert sightline(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["leanings"]["yes_excess"] == 0.5
    assert sightline(*command) == 0
    printed = capsys.readouterr().out
    assert "how the answers lean" in printed
    assert "yes_excess" in printed
