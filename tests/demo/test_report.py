import base64
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.demo import report
from sightline.demo.coco import file_name
from sightline.demo.paint import paint
from sightline.demo.report import SPACE, compact, duration, quota, spread, write_report
from sightline.demo.teacher import SHORT_ANSWER
from sightline.demo.world import draw_scene
from sightline.evaluate.short_answers import Answered, score
from sightline.evaluate.tasks.task import Question

PICTURES = 3
HOSTILE = """</bdi><script src="http://evil.example/x.js"></script><img src=x onerror='alert(1)'>{{ 7 * 7 }} & "so" """
PARTS = {
    "align": {
        "vision": {"parameters": 2_764_416, "trained": 0},
        "connector": {"parameters": 115_456, "trained": 115_456},
        "language": {"parameters": 2_843_904, "trained": 0},
    },
    "instruct": {
        "vision": {"parameters": 2_764_416, "trained": 0},
        "connector": {"parameters": 115_456, "trained": 115_456},
        "language": {"parameters": 2_843_904, "trained": 2_843_904},
    },
}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text with single spaces."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._style = False
        self.feed(self.source)
        self.text = re.sub(r"[ \n]+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else f"{data} "

    def classes(self, name: str) -> list[set[str]]:
        return [found for _, attrs in self.elements if name in (found := set(attrs.get("class", "").split()))]

    def references(self) -> list[str]:
        names = ("src", "srcset", "href", "action", "poster", "data")
        return [value for _, attrs in self.elements for name, value in attrs.items() if name in names]


def answer(number: int, category: str, *, correct: bool, given: str | None = None, unseen: bool = False) -> Answered:
    picture = file_name(number % PICTURES)
    question = Question(
        id=str(number), image=picture, text=f"{category} question {number}?\n{SHORT_ANSWER}",
        answers=(f"truth{number}",), group=category, more={"unseen": unseen},
    )  # fmt: skip
    return Answered(
        question=question, image=picture, given=given or f"{'truth' if correct else 'mistake'}{number}", correct=correct
    )


ANSWERS = [
    answer(number, category, correct=number % 5 != 0, unseen=number % 7 == 0)
    for category, start in (("color", 0), ("shape", 100))
    for number in range(start, start + 40)
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's directory as it is when the report is written."""
    output = tmp_path_factory.mktemp("demo")
    (output / "data" / "images" / "test").mkdir(parents=True)
    for index in range(PICTURES):
        paint(draw_scene(index, seed=1)).save(output / "data" / "images" / "test" / file_name(index))
    for stage in ("align", "instruct"):
        (output / stage).mkdir()
        recipe = files("sightline.demo") / "recipes" / f"{stage}.yaml"
        (output / stage / "recipe.yaml").write_text(recipe.read_text())
        rows: list[dict[str, Any]] = [
            {"step": step, "loss": 3 / step, "lr": 1e-3, "tokens": 4000 * step, "seconds": 0.8 * step}
            for step in range(1, 6)
        ]
        rows[2]["loss"] = None  # a step that was not finite
        rows.append({"step": 5, "validation_loss": 0.6543})
        (output / stage / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return output


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No charts: they take longer than all the rest."""
    variants = {f"{shape}{theme}": "data:," for shape in ("", "-narrow") for theme in ("", "-dark")}
    monkeypatch.setattr(report, "_chart", lambda *arguments: variants)


def write(
    output: Path,
    answers: Sequence[Answered] = ANSWERS,
    captions: dict[str, str] | None = None,
    commands: Sequence[str] = ("sightline demo",),
) -> Page:
    scores = score(answers)
    zero = dict.fromkeys(scores.by_type, 0.0)
    content = {
        "overall": scores.overall, "by_type": scores.by_type, "questions": scores.questions,
        "questions_by_type": scores.count_by_type, "blind": 0.412, "blind_by_type": zero, "align_only": 0.034,
        "align_only_by_type": zero, "align_only_objects_named": 0.781, "unseen_pairs": 0.861, "seen_pairs": 0.894,
        "seconds": {"data": 20.0, "align": 65.0, "instruct": 200.0, "evaluate": 40.0, "total": 325.0}, "parts": PARTS,
    }  # fmt: skip
    if captions is None:
        captions = {file_name(index): f"caption {index}" for index in range(PICTURES)}
    return Page(write_report(output, report=content, answers=answers, captions=captions, commands=commands))


@pytest.fixture(scope="module")
def page(directory: Path) -> Page:
    return write(directory)


def test_nothing_is_fetched_from_outside_the_page(page: Page) -> None:
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in page.references())
    assert "://" not in page.source
    assert not {"script", "link", "iframe", "base", "object", "embed"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import", page.source)
    policy = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_picture_is_embedded_whole(page: Page, directory: Path) -> None:
    embedded = {base64.b64decode(reference.partition(",")[2]) for reference in page.references() if reference[0] != "#"}
    for png in embedded:
        Image.open(BytesIO(png)).verify()
    assert {path.read_bytes() for path in (directory / "data" / "images" / "test").iterdir()} <= embedded
    assert {path.read_bytes() for path in (directory / "report").iterdir()} <= embedded


def test_charts_lie_beside_the_page_for_light_and_dark_wide_and_narrow(page: Page, directory: Path) -> None:
    sizes = {}
    for path in (directory / "report").iterdir():
        with Image.open(path) as picture:
            sizes[path.name] = picture.width
    assert sizes == {
        f"{name}{shape}{theme}.png": width
        for name in ("loss", "accuracy")
        for shape, width in (("", 1960), ("-narrow", 700))
        for theme in ("", "-dark")
    }


def test_charts_have_the_colors_of_the_page() -> None:
    css = (files("sightline.demo") / "report.css").read_text()
    for theme, block in zip(report.THEMES, re.findall(r":root \{(.*?)\}", css, re.DOTALL), strict=True):
        colors = dict(re.findall(r"--([\w-]+): (#\w+);", block))
        for name in ("surface", "ink", "muted", "line", "accent"):
            assert getattr(theme, name) == colors[name]


def test_all_scores_are_there(page: Page) -> None:
    for number in ("80.0%", "41.2%", "3.4%", "78.1%", "86.1%", "89.4%", "80 questions", "3 pictures"):
        assert number in page.text, number


def test_right_and_wrong_answers_stand_with_question_and_expected_answer(page: Page) -> None:
    cards = page.classes("card")
    assert sum("right" in card for card in cards) == 4
    assert sum("wrong" in card for card in cards) == 4
    shown = re.findall(r"(\w+) question (\d+)\?", page.text)[1:]  # the first is the example beside the three parts
    assert {category for category, _ in shown} == {"color", "shape"}
    assert len(shown) == 8
    for _, number in shown:
        given = f"{'mistake' if int(number) % 5 == 0 else 'truth'}{number}"
        assert re.search(rf"question {number}\?.*?Answer\s+{given}\s.*?Expected\s+truth{number}\s", page.text)
    assert "64 of 80 are right (80.0%)" in page.text


def test_the_format_prompt_is_told_once(page: Page) -> None:
    assert page.text.count(SHORT_ANSWER) == 1


def test_trained_parameters_and_rates_are_told_by_part_and_stage(page: Page) -> None:
    assert "vision 2,764,416 frozen frozen" in page.text
    assert "connector 115,456 115,456 at 0.002 115,456 at 0.001" in page.text
    assert "language 2,843,904 frozen 2,843,904 at 0.0005" in page.text
    assert "all 5,723,776 115,456 2,959,360" in page.text
    assert "0.654" in page.text


def test_time_is_told_by_phase(page: Page) -> None:
    for name, seconds in (("data", 20), ("align", 65), ("instruct", 200), ("evaluate", 40)):
        assert f"{name} {duration(seconds)}" in page.text
    grown = [attrs["style"] for _, attrs in page.elements if attrs.get("style", "").startswith("flex-grow")]
    assert grown == [f"flex-grow: {seconds}" for seconds in (20.0, 65.0, 200.0, 40.0)]


@pytest.mark.usefixtures("quick")
def test_whatever_a_model_says_stays_text(directory: Path) -> None:
    answers = [answer(1, HOSTILE, correct=False, given=HOSTILE)]
    page = write(directory, answers, captions={file_name(0): HOSTILE}, commands=[HOSTILE])
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert all(reference.startswith(("data:", "#")) for reference in page.references())
    # category, question twice (card and example), answer twice, caption, command; and the category in the table
    assert page.text.count(HOSTILE.strip()) == 8


@pytest.mark.usefixtures("quick")
def test_a_run_without_mistakes_needs_no_filter(directory: Path) -> None:
    page = write(directory, [answer(number, "color", correct=True) for number in range(10)])
    assert [sorted(card) for card in page.classes("card")] == [["card", "right"]] * 4
    assert not page.classes("filter")
    assert "10 of 10 are right (100.0%)" in page.text


@pytest.mark.usefixtures("quick")
def test_a_run_without_a_right_answer_is_reported_as_well(directory: Path) -> None:
    page = write(directory, [answer(1, "color", correct=False)])
    assert [sorted(card) for card in page.classes("card")] == [["card", "wrong"]]
    assert "0 of 1 are right (0.0%)" in page.text


@pytest.mark.usefixtures("quick")
def test_without_unseen_pairs_no_share_is_claimed(directory: Path) -> None:
    page = write(directory, [answer(1, "color", correct=True)])
    assert "86.1%" not in page.text
    assert not page.classes("tag")


@pytest.mark.usefixtures("quick")
def test_unseen_pairs_are_marked(directory: Path) -> None:
    page = write(directory, [answer(1, "color", correct=True, unseen=True), answer(2, "color", correct=True)])
    assert len(page.classes("tag")) == 1


@pytest.mark.usefixtures("quick")
def test_no_captions_no_section(directory: Path) -> None:
    page = write(directory, captions={})
    assert not page.classes("captions")


@pytest.mark.usefixtures("quick")
def test_an_empty_answer_is_shown_as_such(directory: Path) -> None:
    page = write(directory, [answer(1, "color", correct=False, given=" ")])
    assert page.source.count("<i>nothing</i>") == 2  # the card and the example


@pytest.mark.usefixtures("quick")
def test_the_same_inputs_give_the_same_page(directory: Path) -> None:
    assert write(directory).source == write(directory).source


@pytest.mark.parametrize(
    ("length", "count", "chosen"),
    [(0, 2, []), (1, 2, [0]), (2, 2, [0, 1]), (3, 2, [0, 2]), (10, 2, [2, 7]), (10, 1, [5]), (12, 4, [1, 4, 7, 10]),
     (5, 0, [])],
)  # fmt: skip
def test_spread_takes_items_at_even_distances(length: int, count: int, chosen: list[int]) -> None:
    assert spread(range(length), count) == chosen


@pytest.mark.parametrize(
    ("right", "wrong", "shown"),
    [(9, 9, (2, 2)), (9, 1, (3, 1)), (9, 0, (4, 0)), (1, 9, (1, 3)), (0, 9, (0, 4)), (1, 1, (1, 1)), (0, 0, (0, 0)),
     (2, 2, (2, 2)), (1, 2, (1, 2))],
)  # fmt: skip
def test_quota_is_half_and_half_where_there_are_enough(right: int, wrong: int, shown: tuple[int, int]) -> None:
    assert quota(right, wrong, size=4) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (48.4, "48 s"), (59.6, "1 min 00 s"), (365, "6 min 05 s"), (4320, "1 h 12 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text.replace(" ", SPACE)


@pytest.mark.parametrize(
    ("count", "text"), [(950, "950"), (12_345, "12.3 K"), (4_198_400, "4.2 M"), (6_738_415_616, "6.7 B")]
)
def test_compact(count: int, text: str) -> None:
    assert compact(count) == text.replace(" ", SPACE)
