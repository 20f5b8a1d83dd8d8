"""The page of a benchmark: every question with its picture, answer and verdict, and what the score is made of.

Comes in: an outcome. Goes out: `report.html`, which needs nothing beside it and asks no network. What a model or a
dataset says is text, and stays text on the page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sightline import __version__
from sightline.atomic import write_atomic
from sightline.data.image import open_image
from sightline.evaluate.answering import Picture
from sightline.evaluate.evaluation import Outcome, headline
from sightline.evaluate.interval import Interval, interval
from sightline.evaluate.results import Result
from sightline.evaluate.tasks.registry import task_named
from sightline.evaluate.tasks.task import Question

if TYPE_CHECKING:
    from sightline.evaluate.exam import Exam

PICTURES = 1500
"""Most pictures on a page: some ten megabytes."""
SIDE = 240
"""Pixels of a picture's longer side."""
KINDS = 80
"""Most groups of one kind that are drawn."""
FEW_ANSWERS = 6
"""A benchmark with no more right answers than this is one of yes and no, or of letters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A group of questions. `blind` is the mean with changed pictures."""

    name: str
    seen: Interval
    blind: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """The groups of one kind; `top` is the value at the right end."""

    kind: str
    bars: list[Bar]
    top: float


def write_report(outcome: Outcome) -> Path:
    """Writes the page into the outcome's folder."""
    result = outcome.result
    values = values_of(outcome.exam, result)
    blind = values_of(outcome.exam, outcome.blind_result)
    groups = groupings(outcome.exam.questions)
    score, official = headline(result) if result else (None, False)
    blind_score = headline(outcome.blind_result)[0] if outcome.blind_result else None
    page = _environment().get_template("task_report.html.j2").render(
        title=task_named(outcome.exam.task).title,
        outcome=outcome,
        result=result,
        score=score,
        official=official,
        blind_score=blind_score,
        whole=interval(list(values.values())) if values else None,
        blind_whole=interval(list(blind.values())) if blind else None,
        unit=all(0 <= value <= 1 for value in values.values()),
        charts=[chart for kind, names in groups.items() if (chart := _chart(kind, names, values, blind))],
        others=[(name, other, headline(other)[0]) for name, other in outcome.results.items()],
        data=_data(outcome, values, blind, groups),
        version=__version__,
    )  # fmt: skip
    path = outcome.folder / "report.html"
    write_atomic(path, page)
    return path


def values_of(exam: Exam, result: Result | None) -> dict[int, float]:
    """Each question's value by its place; of a unit of several questions (MMBench's rotations) the unit's."""
    if result is None:
        return {}
    found = {}
    for at, question in enumerate(exam.questions):
        value = result.values.get(question.id, result.values.get(question.group))
        if value is not None:
            found[at] = float(value)
    return found


def groupings(questions: Sequence[Question]) -> dict[str, list[str]]:
    """By what a score can be parted, each with every question's group: a type, a category, and the right answer.

    The last one shows whether yes is said too often, and whether an option is right more often where it stands first.
    """
    kinds = {"category": [question.group for question in questions]}
    for name in ("answer_type", "semantic", "l2-category", "category", "data_type"):
        if any(question.more.get(name) for question in questions):
            kinds["semantic type" if name == "semantic" else name.replace("_", " ")] = [
                str(question.more.get(name) or "") for question in questions
            ]
    if all(len(question.answers) == 1 for question in questions):
        right = [question.answers[0] for question in questions]
        if len(set(right)) <= FEW_ANSWERS:
            kinds["right answer"] = right
    return {kind: names for kind, names in kinds.items() if 1 < len({name for name in names if name}) <= KINDS}


def _chart(kind: str, names: Sequence[str], values: Mapping[int, float], blind: Mapping[int, float]) -> Chart | None:
    parts: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        if name and at in values:
            parts.setdefault(name, []).append(at)
    if not parts:
        return None
    bars = []
    for name, places in parts.items():
        unseeing = [blind[at] for at in places if at in blind]
        bars.append(
            Bar(
                name=name,
                seen=interval([values[at] for at in places]),
                blind=sum(unseeing) / len(unseeing) if unseeing else None,
            )
        )
    bars.sort(key=lambda bar: (-bar.seen.mean, bar.name))
    return Chart(kind=kind, bars=bars, top=max(1.0, *(bar.seen.high for bar in bars)))


def _data(
    outcome: Outcome, values: Mapping[int, float], blind: Mapping[int, float], groups: Mapping[str, Sequence[str]]
) -> Markup:
    """What the page's script draws its cards from, as JSON that no text in it can end."""
    pictures: dict[Picture, int] = {}
    cards = []
    for at, said in outcome.answers.items():
        question, seen = outcome.exam.questions[at], outcome.exam.asked[at].pictures
        for picture in seen:
            if picture not in pictures and len(pictures) < PICTURES:
                pictures[picture] = len(pictures)
        cards.append(
            {
                "id": question.id,
                "pictures": [pictures[picture] for picture in seen if picture in pictures],
                "question": question.text or outcome.exam.asked[at].prompt,
                "hint": question.hint,
                "options": list(question.options),
                "right": _counted(question.answers),
                "said": said,
                "value": values.get(at),
                "blind": outcome.blind_answers.get(at),
                "blindValue": blind.get(at),
                "groups": [names[at] for names in groups.values()],
            }
        )
    content = {"pictures": [_thumbnail(picture) for picture in pictures], "cards": cards, "kinds": list(groups)}
    text = json.dumps(content, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _counted(answers: Sequence[str]) -> list[list[Any]]:
    """Distinct right answers with how many gave them, most first."""
    counts: dict[str, int] = {}
    for answer in answers:
        counts[answer] = counts.get(answer, 0) + 1
    return [[answer, count] for answer, count in sorted(counts.items(), key=lambda item: -item[1])]


def _thumbnail(picture: Picture) -> str:
    image = open_image(picture)
    image.thumbnail((SIDE, SIDE))
    file = BytesIO()
    image.save(file, format="JPEG", quality=86)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def flat(figures: Mapping[str, Any], decimals: int, prefix: str = "") -> list[tuple[str, str]]:
    """Every figure with its path, as text."""
    rows: list[tuple[str, str]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            rows += flat(value, decimals, f"{prefix}{name} / ")
        else:
            shown = f"{value:.{decimals}f}" if isinstance(value, float) else "–" if value is None else str(value)
            rows.append((f"{prefix}{name}", shown))
    return rows


def _environment() -> Environment:
    """Everything that goes into the page is escaped; a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("sightline.evaluate", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": lambda count: f"{count:,}", "flat": flat}
    return environment
