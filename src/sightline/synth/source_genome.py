"""Visual Genome: `region_descriptions.json` and `objects.json`, with `image_data.json` for the sizes of the pictures.

Comes in: the folder that holds them, or one of the first two files. Goes out: a `Source`: phrases of regions are
captions, objects are boxes. Fields are those of visualgenome.org, version 1.4: x, y, w, h in pixels. Files are read one
picture at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.synth.context import Box
from sightline.synth.source import (
    Place,
    Source,
    box_of,
    numbers_at,
    objects_at,
    records,
    relative,
    size_at,
    size_of_file,
    text_at,
)

MOST_PHRASES = 12
"""Phrases of a picture, those of the largest regions: fifty of them, as there are, bury what matters."""
REGIONS, OBJECTS, IMAGES = "region_descriptions.json", "objects.json", "image_data.json"


def read_genome(path: Path, *, images: Path | None = None, split: str | None = None) -> Source:
    """The contexts, in the order of the regions, then of pictures that have objects only.

    Raises:
        DataError: a file is not Visual Genome's; the message names line and key.
    """
    source = Source(format="genome", path=path)
    folder = path if path.is_dir() else path.parent
    files = [folder / REGIONS, folder / OBJECTS] if path.is_dir() else [path]
    known = _image_data(folder / IMAGES)
    phrases: dict[str, list[str]] = {}
    boxes: dict[str, list[Box]] = {}
    for file in files:
        for tree, place in _pictures(file):
            identity = _identity(tree, place)
            phrases.setdefault(identity, [])
            boxes.setdefault(identity, [])
            if "regions" in tree:
                phrases[identity] += _phrases(source, tree, place)
            if "objects" in tree:
                name, size = known.get(identity, (_default_name(identity), None))
                size = size or size_of_file(name, images)
                boxes[identity] += _boxes(source, tree, place, size)
    for identity, found in phrases.items():
        name = known.get(identity, (_default_name(identity), None))[0]
        source.add(identity, name, found, boxes[identity])
    return source


def _pictures(path: Path) -> Iterator[tuple[dict[str, Any], Place]]:
    if path.is_file():
        for record in records(path):
            tree: dict[str, Any] = record.value  # type: ignore[assignment]
            yield tree, Place(file=record.place)


def _identity(tree: Mapping[str, Any], place: Place) -> str:
    return text_at(tree, "image_id" if "image_id" in tree else "id", place)


def _default_name(identity: str) -> str:
    return f"VG_100K/{identity}.jpg"


def _image_data(path: Path) -> dict[str, tuple[str, tuple[float, float] | None]]:
    """Id -> name of the picture, the last two parts of its address, and its size."""
    found = {}
    for tree, place in _pictures(path):
        identity = _identity(tree, place)
        url = tree.get("url")
        name = "/".join(PurePosixPath(url).parts[-2:]) if isinstance(url, str) and url else _default_name(identity)
        found[identity] = relative(name, place.within("url")), size_at(tree)
    return found


def _phrases(source: Source, tree: Mapping[str, Any], place: Place) -> list[str]:
    """Phrases of the largest regions first, each once."""
    found: dict[str, float] = {}
    for region, at in objects_at(tree, "regions", place):
        phrase = " ".join(text_at(region, "phrase", at).split())
        width, height = numbers_at([region.get("width"), region.get("height")], 2, at.within("width, height"))
        found[phrase] = max(found.get(phrase, 0.0), width * height)
    ordered = sorted(found, key=lambda phrase: -found[phrase])
    source.left_out["phrase_surplus"] += len(ordered[MOST_PHRASES:])
    return ordered[:MOST_PHRASES]


def _boxes(
    source: Source, tree: Mapping[str, Any], place: Place, size: tuple[float, float] | None
) -> Iterator[Box]:  # fmt: skip
    for item, at in objects_at(tree, "objects", place):
        names = item.get("names")
        if not isinstance(names, list) or not names or not isinstance(names[0], str) or not names[0].strip():
            raise at.within("names").error(names, "a list with a name")
        sides = numbers_at([item.get(key) for key in ("x", "y", "w", "h")], 4, at.within("x, y, w, h"))
        box = box_of(source, names[0], *sides, size=size)
        if box is not None:
            yield box
