"""The run as a page: pictures, contexts and dialogues to look through, and what they are made of.

Comes in: a `Report`, the folder of the pictures if there is one. Goes out: one HTML page that needs nothing beside it.
Without a picture its boxes stand on an empty frame. What captions and replies say is text, and stays text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from sightline.data.image import open_image
from sightline.errors import DataError
from sightline.synth.card import Report
from sightline.synth.export import Shown
from sightline.synth.statistics import LENGTHS

THUMBNAIL = 560
"""Longest side of a picture on the page, in pixels: almost twice its width there."""
BARS = 14
"""Bars of a histogram."""
HUES = (212, 24, 148, 330, 46, 268, 182, 0)
"""Of boxes, by category: far from each other around the circle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageBox:
    """A box in percent of the picture's sides."""

    category: str
    left: float
    top: float
    width: float
    height: float
    hue: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSample:
    """A sample with its picture as a data URI, or None."""

    shown: Shown
    picture: str | None
    boxes: list[PageBox]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A row of a histogram; `share` of the longest one, 0 to 1."""

    name: str
    count: int
    share: float


def write_page(report: Report, *, name: str, images: Path | None) -> str:
    """The page as HTML."""
    statistics = report.export.statistics
    histograms = {
        "How questions begin": _bars(statistics.openings),
        "Words of an answer": _length_bars(statistics.lengths),
        "Things that are named": _bars(statistics.things),
        "What is being done": _bars(statistics.doings),
    }
    asked, accepted = report.asked.total(), report.accepted.total()
    reasons = {**report.rejections, **report.export.dropped}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            name=name,
            report=report,
            samples=[_sample(shown, images) for shown in report.export.shown],
            total=report.export.samples.total(),
            pairs=statistics.pairs.total(),
            asked=asked,
            accepted=accepted,
            histograms=histograms,
            reasons=_bars(reasons),
        )
    )


def _sample(shown: Shown, images: Path | None) -> PageSample:
    context = shown.subject.context
    categories = list(dict.fromkeys(box.category for box in context.boxes))
    boxes = []
    for box in sorted(context.boxes, key=lambda box: -box.area):
        left, top, right, bottom = (100 * value for value in box.corners)
        hue = HUES[categories.index(box.category) % len(HUES)]
        boxes.append(
            PageBox(category=box.category, left=left, top=top, width=right - left, height=bottom - top, hue=hue)
        )
    return PageSample(shown=shown, picture=_picture(context.image, images), boxes=boxes)


def _picture(name: str, images: Path | None) -> str | None:
    if images is None:
        return None
    try:
        picture = open_image(name, root=images)
    except DataError:  # the page is to be looked at; `sightline check` tells which pictures are missing, and why
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _bars(counts: Mapping[str, int], *, most: int = BARS) -> list[Bar]:
    """The largest counts, and the rest as a number."""
    ordered = sorted((item for item in counts.items() if item[1]), key=lambda item: (-item[1], item[0]))
    rest = ordered[most:]
    others = [Bar(name=f"{len(rest)} others", count=sum(count for _, count in rest), share=0.0)] if rest else []
    return _scaled(ordered[:most]) + others


def _length_bars(lengths: Mapping[int, int]) -> list[Bar]:
    ends: Sequence[int | None] = [low - 1 for low in LENGTHS[1:]] + [None]
    names = [
        f"{low} and more" if end is None else str(low) if low == end else f"{low} to {end}"
        for low, end in zip(LENGTHS, ends, strict=True)
    ]
    return _scaled((name, lengths.get(low, 0)) for name, low in zip(names, LENGTHS, strict=True))


def _scaled(counts: Iterable[tuple[str, int]]) -> list[Bar]:
    items = list(counts)
    longest = max((count for _, count in items), default=0) or 1
    return [Bar(name=name, count=count, share=count / longest) for name, count in items]


def _environment() -> Environment:
    """Everything that goes into the page is escaped, whoever wrote it; a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("sightline.synth", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": lambda share: f"{100 * share:.1f}%", "number": lambda count: f"{count:,}"}
    return environment
