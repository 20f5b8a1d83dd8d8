"""What a source is, and what its readers share: checked values, and the one line about a wrong one.

Comes in: values of annotation files. Goes out: a `Source` of contexts, or `DataError`. Nothing is left out silently:
`left_out` counts by reason what did not become part of a context. Knows no format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.data.image import read_header
from sightline.data.reading import Record, read_records
from sightline.data.values import show
from sightline.errors import DataError
from sightline.synth.context import Box, Context, fractions


@dataclass(kw_only=True)
class Source:
    """Contexts, in the order of their source.

    Attributes:
        vocabulary: categories whose things are boxed wherever they occur; empty where nobody promises that.
        left_out: how many captions, boxes and pictures are not used, by reason: `caption_empty`, `box_degenerate` (no
            area within the picture), `size_missing` (boxes of a picture whose size nobody knows), `nothing_known`
            (pictures without captions and boxes), `phrase_surplus`, `entity_unnamed`.
    """

    format: str
    path: Path
    contexts: list[Context] = field(default_factory=list)
    vocabulary: frozenset[str] = frozenset()
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, identity: str, image: str, captions: Iterable[str], boxes: Iterable[Box]) -> None:
        """A picture, if anything is known about it."""
        kept = []
        for caption in captions:
            words = " ".join(caption.split())
            if words:
                kept.append(words)
            else:
                self.left_out["caption_empty"] += 1
        context = Context(id=identity, image=image, captions=tuple(kept), boxes=tuple(boxes))
        if context.captions or context.boxes:
            self.contexts.append(context)
        else:
            self.left_out["nothing_known"] += 1


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value stands: for the one line about it."""

    file: Path | str
    key: str = ""

    def within(self, key: str) -> Place:
        return Place(file=self.file, key=f"{self.key}.{key}".lstrip("."))

    def error(self, found: object, expected: str, fix: str = "mend the file") -> DataError:
        where = f"{self.file}: {self.key}" if self.key else str(self.file)
        return DataError(f"{where}: found {show(found)}, expected {expected}; {fix}", reason="source_invalid")


def text_at(tree: Mapping[str, Any], key: str, place: Place) -> str:
    """A text under a key; a number becomes one."""
    value = tree.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise place.within(key).error(value, "a text")
    return value


def objects_at(tree: Mapping[str, Any], key: str, place: Place) -> Iterator[tuple[dict[str, Any], Place]]:
    """The objects of the list under a key, with their places. `DataError` where there is no list, or an odd entry."""
    items = tree.get(key)
    if not isinstance(items, list):
        raise place.within(key).error(items, "a list")
    for number, item in enumerate(items):
        at = place.within(f"{key}[{number}]")
        if not isinstance(item, dict):
            raise at.error(item, "an object {...}")
        yield item, at


def numbers_at(value: object, count: int, place: Place) -> list[float]:
    """So many finite numbers."""
    if isinstance(value, list) and len(value) == count and all(_is_number(item) for item in value):
        return [float(item) for item in value]
    raise place.error(value, f"{count} numbers")


def size_at(tree: Mapping[str, Any]) -> tuple[float, float] | None:
    """`width` and `height` of an object, where they are positive numbers."""
    sides = [tree[key] for key in ("width", "height") if _is_number(tree.get(key)) and tree[key] > 0]
    return (float(sides[0]), float(sides[1])) if len(sides) == 2 else None


def size_of_file(image: str, images: Path | None) -> tuple[float, float] | None:
    """Width and height by the picture's header, where the picture is there."""
    if images is None:
        return None
    try:
        width, height, _ = read_header(image, root=images)
    except DataError:
        return None
    return float(width), float(height)


def box_of(
    source: Source,
    category: str,
    left: float,
    top: float,
    width: float,
    height: float,
    *,
    size: tuple[float, float] | None,
    crowd: bool = False,
) -> Box | None:
    """A box given in pixels by its corner and size; None, and counted, where nothing of it can be used."""
    if size is None:
        source.left_out["size_missing"] += 1
        return None
    corners = fractions(left, top, left + width, top + height, width=size[0], height=size[1])
    if corners is None:
        source.left_out["box_degenerate"] += 1
        return None
    return Box(category=" ".join(category.lower().split()), corners=corners, crowd=crowd)


def relative(name: str, place: Place) -> str:
    """A picture's path, if it stays below the folder of the pictures."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "://" in name:
        raise place.error(name, "a path below the folder of the pictures")
    return str(path)


def records(path: Path) -> Iterable[Record]:
    """Records of a JSON list or JSONL; one that is no sound JSON object ends the reading."""
    for record in read_records(path):
        if record.fault is not None:
            raise DataError(f"{record.place}: {record.fault}", reason="source_invalid")
        if not isinstance(record.value, dict):
            raise Place(file=record.place).error(record.value, "an object {...}")
        yield record


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
