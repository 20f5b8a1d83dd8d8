"""The demo's report: one HTML file that needs nothing beside it, and its charts as PNG.

Comes in: scores, answers and captions, and the demo's directory with the logs and recipes of both stages and the
held-out pictures. Goes out: `report.html` and `report/*.png`. Does not know how anything was trained or scored.
What a model said is text, and stays text on the page.
"""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from sightline import __version__
from sightline.atomic import write_atomic
from sightline.config import load_recipe
from sightline.demo.teacher import SHORT_ANSWER
from sightline.evaluate.short_answers import Answered
from sightline.recipe import PARTS, PartName
from sightline.train.log import LOG_FILE, read_log
from sightline.train.output import RECIPE_FILE
from sightline.train.plot import smoothed

STAGES = ("align", "instruct")
CARDS = 4
"""Most answers in the gallery for each type of question."""
CAPTIONS = 6
"""Pictures in the gallery with the aligned model's caption."""
PIXELS = 200
"""Per inch of a chart; the page shows 100, so that it is crisp on a fine screen."""
SPACE = "\N{NO-BREAK SPACE}"

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Colors of a chart; those of the same names in `report.css`, so that a chart has no edge on its card."""

    name: str
    surface: str
    ink: str
    muted: str
    line: str
    accent: str


THEMES = (
    Theme(name="", surface="#ffffff", ink="#1b1f24", muted="#66707c", line="#e6e8eb", accent="#2563eb"),
    Theme(name="-dark", surface="#171a1f", ink="#e7e9ec", muted="#98a1ad", line="#2a2f37", accent="#7da6ff"),
)
FONTS = ("Inter", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Liberation Sans", "Arial")
"""As in `report.css`: the first that is installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One answer of the gallery; `picture` is a data URI."""

    picture: str
    question: str
    expected: str
    given: str
    correct: bool
    unseen: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A type of question (or all): how many, the share answered right, and by the two baselines; cards to look at."""

    name: str
    questions: int
    share: float
    blind: float
    align_only: float
    cards: tuple[Card, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A run: its log, and what its recipe says."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    rates: Mapping[PartName, float]
    batch: int

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """The rows of steps with a finite loss."""
        return [row for row in self.rows if row.get("loss") is not None]

    @property
    def validations(self) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row.get("validation_loss") is not None]


def write_report(
    output: Path, *, report: Mapping[str, Any], answers: Sequence[Answered], captions: Mapping[str, str],
    commands: Sequence[str],
) -> Path:  # fmt: skip
    """Writes `report.html` and its charts.

    Args:
        output: the demo's directory, with `align/`, `instruct/` and `data/images/test/`.
        report: `report.json`'s content; shares from 0 to 1, `seconds` per phase, `parts` per stage.
        answers: the instructed model's, in the order of the questions.
        captions: the aligned model's, by file name.
        commands: what was run.

    Returns:
        The path of the page.
    """
    stages = [_read_stage(output / name, name) for name in STAGES]
    pictures = output / "data" / "images" / "test"
    rows = [
        Row(name=name, questions=report["questions_by_type"][name], share=share, blind=report["blind_by_type"][name],
            align_only=report["align_only_by_type"][name], cards=_draw_cards(name, answers, pictures))
        for name, share in sorted(report["by_type"].items(), key=lambda item: -item[1])
    ]  # fmt: skip
    overall = Row(
        name="overall", questions=report["questions"], share=report["overall"], blind=report["blind"],
        align_only=report["align_only"],
    )  # fmt: skip
    charts = output / "report"
    charts.mkdir(parents=True, exist_ok=True)
    page = _environment().get_template("report.html.j2").render(
        report=report, overall=overall, rows=rows, stages=stages, parts=PARTS, commands=commands,
        example=_card(answers[0], pictures),
        right=sum(answer.correct for answer in answers),
        cards=CARDS,
        pictures=len({answer.image for answer in answers}),
        unseen=sum(answer.question.more["unseen"] for answer in answers),
        captions=[(_data_uri(pictures / name), captions[name]) for name in spread(sorted(captions), CAPTIONS)],
        suffix=SHORT_ANSWER,
        accuracy=_chart(charts, "accuracy", lambda theme, wide: _draw_accuracy(overall, rows, theme, wide)),
        loss=_chart(charts, "loss", lambda theme, wide: _draw_losses(stages, theme, wide)),
        machine=_machine(),
    )  # fmt: skip
    path = output / "report.html"
    write_atomic(path, page)
    return path


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` items at even distances, in their order; all of them if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def quota(right: int, wrong: int, *, size: int) -> tuple[int, int]:
    """How many right and wrong answers to show: half and half, and more of one where the other has too few."""
    shown_wrong = min(wrong, max(size // 2, size - right))
    return min(right, size - shown_wrong), shown_wrong


def _draw_cards(category: str, answers: Sequence[Answered], pictures: Path) -> tuple[Card, ...]:
    """Right answers of this type first, then wrong ones, drawn without looking at them."""
    right = [answer for answer in answers if answer.question.group == category and answer.correct]
    wrong = [answer for answer in answers if answer.question.group == category and not answer.correct]
    some_right, some_wrong = quota(len(right), len(wrong), size=CARDS)
    return tuple(_card(answer, pictures) for answer in spread(right, some_right) + spread(wrong, some_wrong))


def _card(answer: Answered, pictures: Path) -> Card:
    question = answer.question
    return Card(
        picture=_data_uri(pictures / answer.image), question=question.text.removesuffix(SHORT_ANSWER).strip(),
        expected=question.answers[0], given=answer.given, correct=answer.correct, unseen=question.more["unseen"],
    )  # fmt: skip


def _data_uri(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def _read_stage(directory: Path, name: str) -> Stage:
    recipe = load_recipe(directory / RECIPE_FILE)
    rates = {part: recipe.train.lr[part] for part in PARTS if part in recipe.train.lr}
    return Stage(name=name, rows=read_log(directory / LOG_FILE), rates=rates, batch=recipe.train.batch)


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    software = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return f"sightline {__version__}, {software}, Python {platform.python_version()}, {device}"


def duration(seconds: float) -> str:
    """`48 s`, `6 min 05 s`, `1 h 12 min`, with spaces at which no line breaks."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min{SPACE}{whole % 60:02}{SPACE}s"
    return f"{whole // 3600}{SPACE}h{SPACE}{whole % 3600 // 60:02}{SPACE}min"


def compact(count: int) -> str:
    """`950`, `12.3 K`, `4.2 M`, `6.7 B`, with a space at which no line breaks."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.1f}{SPACE}{unit}"
    return str(count)


def _environment() -> Environment:
    """Everything that goes into the page is escaped, whoever wrote it; a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("sightline.demo", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.1f}%",
        "number": lambda count: f"{count:,}",
        "duration": duration,
        "compact": compact,
    }
    return environment


def _chart(folder: Path, name: str, draw: Callable[[Theme, bool], Any]) -> dict[str, str]:
    """Draws a chart for light and dark, for wide and narrow pages, into `folder`; returns the data URIs by variant."""
    from matplotlib import font_manager, rc_context  # here, because importing it takes longer than --help may

    installed = set(font_manager.get_font_names())
    found = {}
    for theme in THEMES:
        style = {
            "font.family": [*(font for font in FONTS if font in installed), "DejaVu Sans"], "font.size": 10,
            "figure.facecolor": theme.surface, "axes.facecolor": theme.surface, "savefig.facecolor": theme.surface,
            "text.color": theme.ink, "axes.labelcolor": theme.muted, "axes.edgecolor": theme.line,
            "xtick.color": theme.muted, "ytick.color": theme.muted, "xtick.labelsize": 9, "ytick.labelsize": 9,
        }  # fmt: skip
        for shape, wide in (("", True), ("-narrow", False)):
            variant = f"{name}{shape}{theme.name}"
            drawn = BytesIO()
            with rc_context(style):
                draw(theme, wide).savefig(drawn, format="png", dpi=PIXELS)
            write_atomic(folder / f"{variant}.png", drawn.getvalue())
            found[f"{shape}{theme.name}"] = _data_uri(folder / f"{variant}.png")
    return found


def _draw_accuracy(overall: Row, rows: Sequence[Row], theme: Theme, wide: bool) -> Any:
    """One bar a row, with a mark for each baseline."""
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    ordered = [*reversed(rows), overall]
    places = [float(place) for place in range(len(rows))] + [len(rows) + 0.4]
    figure = Figure(figsize=(9.8 if wide else 3.5, 0.36 * len(ordered) + 0.95), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, [100] * len(ordered), height=0.34, color=theme.line)
    bars = axes.barh(places, [100 * row.share for row in ordered], height=0.34, color=theme.accent)
    halo = [withStroke(linewidth=3.5, foreground=theme.surface)]
    blind = axes.scatter(
        [100 * row.blind for row in ordered], places, marker="|", s=190, linewidths=1.8, color=theme.ink,
        path_effects=halo, zorder=3,
    )  # fmt: skip
    align_only = axes.scatter(
        [100 * row.align_only for row in ordered], places, marker="o", s=26, linewidths=1.4, facecolor=theme.surface,
        edgecolor=theme.ink, zorder=4, clip_on=False,
    )  # fmt: skip
    for place, row in zip(places, ordered, strict=True):
        axes.text(102, place, f"{100 * row.share:.1f}", va="center", fontweight="bold" if row is overall else "normal")
    axes.set_yticks(places, [row.name for row in ordered], fontsize=10, color=theme.ink)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xticks(range(0, 101, 25), [f"{share}%" for share in range(0, 101, 25)])
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.6, places[-1] + 0.5)
    axes.tick_params(length=0, pad=6)
    axes.spines[:].set_visible(False)
    figure.legend(
        [bars[0], blind, align_only], ["its own picture", "pictures swapped", "stage 1 only"], ncols=3, frameon=False,
        loc="outside upper left", handletextpad=0.5, handlelength=1.1, columnspacing=1.6 if wide else 0.9,
        fontsize=9.5 if wide else 8,
    )  # fmt: skip
    return figure


def _draw_losses(stages: Sequence[Stage], theme: Theme, wide: bool) -> Any:
    """One panel a stage: the loss of each step, its moving average, and the validation loss."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    size, grid = ((9.8, 3.3), (1, 2)) if wide else ((3.5, 5.2), (2, 1))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06))
    for number, (axes, stage) in enumerate(zip(figure.subplots(*grid).flat, stages, strict=True), start=1):
        steps = [row["step"] for row in stage.steps]
        losses = [row["loss"] for row in stage.steps]
        axes.plot(steps, losses, color=theme.muted, alpha=0.45, linewidth=0.7, label="each step")
        axes.plot(steps, smoothed(losses, weight=0.8), color=theme.accent, linewidth=1.8, label="moving average")
        axes.plot(
            [row["step"] for row in stage.validations], [row["validation_loss"] for row in stage.validations], "o",
            color=theme.ink, markeredgecolor=theme.surface, markersize=6.5, label="validation", clip_on=False,
        )  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, place: f"{loss:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"Stage {number}: {stage.name}", loc="left", fontsize=10.5, fontweight="bold", pad=12)
        axes.grid(axis="y", color=theme.line, linewidth=0.8)
        axes.tick_params(which="both", length=0, pad=6)
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.set_xlabel("step")
        axes.margins(x=0.01)
    axes.legend(frameon=False, fontsize=9, loc="upper right", handlelength=1.3)
    return figure
