"""The page of a benchmark: it holds every question, asks no network, and lets no text become a part of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sightline.evaluate.evaluation import Options, Outcome, evaluate_exam
from sightline.evaluate.exam import open_exam
from sightline.evaluate.task_report import groupings, values_of
from sightline.evaluate.tasks.task import Question
from tests.evaluate.exams import Parrot, make

EVIL = '</script><script>alert("&amp;")</script><img src=x onerror=alert(1)>'


def run(task: str, folder: Path, answers: dict[int, str], **options: Any) -> Outcome:
    make(task, folder / "data")
    exam = open_exam(task, folder / "data")
    outcome = evaluate_exam(exam, Parrot(answers), folder / "out", Options(**options), say=lambda line: None)
    assert outcome is not None
    return outcome


def page_of(outcome: Outcome) -> str:
    return (outcome.folder / "report.html").read_text()


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_every_question_is_on_the_page_with_its_picture_answer_and_verdict(tmp_path: Path) -> None:
    outcome = run("short-answers", tmp_path, {at: "The red." if at < 3 else "blue" for at in range(5)}, blind="swap")
    data = data_of(page_of(outcome))
    assert [card["said"] for card in data["cards"]] == ["The red."] * 3 + ["blue"] * 2
    assert [card["value"] for card in data["cards"]] == [1, 1, 1, 0, 0]
    assert [card["blind"] for card in data["cards"]] == ["The red."] * 3 + ["blue"] * 2
    assert [card["pictures"] for card in data["cards"]] == [[0], [1], [2], [3], [4]]
    assert len(set(data["pictures"])) == 5
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in data["pictures"])
    assert (data["kinds"], data["cards"][1]["groups"]) == (["category"], ["b"])


def test_the_page_shows_the_score_and_that_without_the_pictures(tmp_path: Path) -> None:
    page = page_of(run("short-answers", tmp_path, dict.fromkeys(range(5), "red"), blind="grey"))
    assert page.count("<b>100.00</b>") == 2
    assert "accuracy with a grey picture; mean score of the questions 100.0%" in page
    assert page.count('class="range"') == 2, "one bar a category"


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_what_a_model_says_stays_text_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = page_of(run("short-answers", tmp_path, dict.fromkeys(range(5), EVIL)))
    assert data_of(page)["cards"][0]["said"] == EVIL
    tags = Elements(page).tags
    assert [tag for tag, _ in tags].count("script") == 2
    assert not any("src" in attributes or "href" in attributes for _, attributes in tags)


def test_a_rotation_has_the_value_of_its_group(tmp_path: Path) -> None:
    outcome = run("mmbench", tmp_path, {0: "A", 1: "D", 2: "B", 3: "B"})
    assert values_of(outcome.exam, outcome.result) == {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0}


def test_a_part_of_the_questions_is_not_called_the_benchmarks_figure(tmp_path: Path) -> None:
    outcome = run("gqa", tmp_path, {0: "red", 1: "dog"}, limit=1)
    assert "not the benchmark" in page_of(outcome)
    assert len(data_of(page_of(outcome))["cards"]) == 1


@pytest.mark.parametrize(
    ("answers", "kinds"),
    [
        ([("yes",), ("no",), ("yes",)], ["category", "right answer"]),
        ([("A",), ("B",), ("C",)], ["category", "right answer"]),
        ([("yes",), ("yes",), ("yes",)], ["category"]),
        ([("yes", "no"), ("no",), ("yes",)], ["category"]),
    ],
)
def test_scores_are_parted_by_the_right_answer_where_there_are_few(
    answers: list[tuple[str, ...]], kinds: list[str]
) -> None:
    questions = [Question(id=str(at), answers=one, group="ab"[at % 2]) for at, one in enumerate(answers)]
    assert list(groupings(questions)) == kinds
