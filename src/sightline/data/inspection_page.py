"""Inspections as one HTML page that needs nothing beside it.

Comes in: `Inspection`s, the processor they were made with. Goes out: a page with the
pictures as they are and as the model sees them. What somebody wrote is text, and stays text on the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from sightline.atomic import write_atomic
from sightline.data.image import open_image
from sightline.data.inspection import Inspection, SeenPicture, SeenSegment
from sightline.data.processor import Processor
from sightline.data.spelling import Glyphs, glyphs, spell
from sightline.errors import DataError

PAGE_SAMPLES = 100
"""Samples on a page, unless somebody asks for another number: some ten megabytes with a photograph each."""
THUMBNAIL = 640
"""Longest side of a picture on the page, in pixels: twice its width there."""
QUALITY = 88
"""Of JPEG, for thumbnails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageToken:
    """A token as it is shown; `kept` unless `max_length` cuts it off."""

    glyphs: list[Glyphs]
    ids: tuple[int, ...]
    position: int
    kept: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSegment:
    """A segment with its tokens; a picture has none, but a number that counts from 1.

    `inside` and `beyond` count its positions on either side of the cut by `max_length`.
    """

    seen: SeenSegment
    tokens: list[PageToken]
    number: int | None
    inside: int
    beyond: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PagePicture:
    """A picture as a file and as the model sees it, as data URIs; without them, `fault` says why."""

    seen: SeenPicture
    original: str | None
    tile: str | None
    fault: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSample:
    """A sample of the page."""

    seen: Inspection
    segments: list[PageSegment]
    pictures: list[PagePicture]


def write_page(
    path: Path,
    seen: Iterable[Inspection],
    processor: Processor,
    *,
    data: Path,
    most: int,
    say: Callable[[str], None],
) -> Iterator[Inspection]:
    """Passes the samples on, and with the last of them writes the page, whole or not at all, about the first `most`."""
    samples: list[PageSample] = []
    for one in seen:
        if len(samples) < most:
            samples.append(_page_sample(one, processor))
        yield one
    page = _environment().get_template("inspection.html.j2").render(
        samples=samples, data=data.name, settings=processor.settings,
        positions=sum(sample.seen.positions for sample in samples),
        trained=sum(sample.seen.trained for sample in samples),
        refused=sum(sample.seen.refused is not None for sample in samples),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)
    say(f"the first {len(samples)} samples are on the page; --limit shows more or fewer")


def _page_sample(seen: Inspection, processor: Processor) -> PageSample:
    segments: list[PageSegment] = []
    before: int | None = None
    pictures = 0
    for segment in seen.segments:
        number = None
        if segment.kind == "picture":
            pictures += 1
            number = pictures
        segments.append(
            PageSegment(
                seen=segment,
                tokens=_tokens(segment, processor, before=before, kept=seen.positions),
                number=number,
                inside=max(0, min(segment.end, seen.positions) - segment.start),
                beyond=max(0, segment.end - max(segment.start, seen.positions)),
            )
        )
        before = segment.ids[-1]
    return PageSample(
        seen=seen, segments=segments, pictures=[_page_picture(picture, processor) for picture in seen.pictures]
    )


def _tokens(segment: SeenSegment, processor: Processor, *, before: int | None, kept: int) -> list[PageToken]:
    if segment.kind == "picture":
        return []
    if segment.kind != "text":
        shown = glyphs([segment.text])[0]
        return [PageToken(glyphs=shown, ids=segment.ids, position=segment.start, kept=segment.end <= kept)]
    cells = spell(processor.tokenizer, segment.ids, start=segment.start, before=before)
    return [
        PageToken(glyphs=shown, ids=cell.ids, position=cell.position, kept=cell.position + len(cell.ids) <= kept)
        for cell, shown in zip(cells, glyphs([cell.text for cell in cells]), strict=True)
    ]


def _page_picture(seen: SeenPicture, processor: Processor) -> PagePicture:
    if seen.fault is not None:
        return PagePicture(seen=seen, original=None, tile=None, fault=seen.fault)
    try:
        picture = open_image(seen.path, root=seen.root)
    except DataError as error:  # found only where the pixels are decoded
        return PagePicture(seen=seen, original=None, tile=None, fault=f"{error} ({error.reason})")
    tile = _as_picture(processor, picture)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return PagePicture(seen=seen, original=_data_uri(picture), tile=_data_uri(tile), fault=None)


def _as_picture(processor: Processor, picture: Image.Image) -> Image.Image:
    """What the model sees, with the normalisation undone."""
    settings = processor.settings
    mean, std = np.array(settings.image_mean), np.array(settings.image_std)
    pixels = processor.transform(picture).transpose(1, 2, 0) * std + mean
    return Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8))


def _data_uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _environment() -> Environment:
    """Everything that goes into the page is escaped, whoever wrote it; a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("sightline.data", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": lambda share: f"{100 * share:.1f}%", "number": lambda count: f"{count:,}"}
    return environment
