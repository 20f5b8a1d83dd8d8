"""Flickr30k Entities: `Sentences/ID.txt` and `Annotations/ID.xml`.

Comes in: the folder with both. Goes out: a `Source`: five sentences are captions, the phrase of an entity names its
boxes. The form is that of Plummer et al. 2015: `[/EN#12/people A young man] waits .`, and boxes in pixels per entity.
XML that brings a document type of its own is refused: that is where entities expand and files are fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from sightline.errors import ConfigError, DataError
from sightline.synth.context import Box
from sightline.synth.source import Place, Source, box_of, numbers_at

_ENTITY = re.compile(r"\[/EN#(\d+)(?:/[\w/]+)? ([^\]]*)\]")
_ARTICLE = re.compile(r"^(?:a|an|the|one|his|her|their|its|this|that|some)\s+", re.IGNORECASE)
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?'])")
MAX_XML_BYTES = 2**20
"""Largest annotation file; the longest of the data set has some 20 KB."""


def read_flickr(path: Path, *, images: Path | None = None, split: str | None = None) -> Source:
    """The contexts, in the order of their names.

    Raises:
        ConfigError: there is no folder `Sentences`.
        DataError: a file is not of the data set; the message names it.
    """
    if not (path / "Sentences").is_dir():
        raise ConfigError(f"{path}: no folder Sentences in it; give the unpacked folder of Flickr30k Entities")
    source = Source(format="flickr30k", path=path)
    for file in sorted((path / "Sentences").glob("*.txt")):
        captions, names = _sentences(file)
        boxes = _boxes(source, path / "Annotations" / f"{file.stem}.xml", names)
        source.add(file.stem, f"{file.stem}.jpg", captions, boxes)
    return source


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", reason="file_unreadable") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; download it again", reason="not_utf8") from error


def _sentences(path: Path) -> tuple[list[str], dict[str, str]]:
    """The sentences without marks, and the shortest phrase for each entity."""
    captions: list[str] = []
    names: dict[str, str] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if "[/EN#" in _ENTITY.sub("", line):
            raise Place(file=f"{path}:{number}").error(line, "phrases such as [/EN#12/people A young man]")
        captions.append(_SPACE_BEFORE.sub(r"\1", _ENTITY.sub(r"\2", line)))
        for entity, phrase in _ENTITY.findall(line):
            name = _ARTICLE.sub("", " ".join(phrase.lower().split()))
            if name and (entity not in names or (len(name), name) < (len(names[entity]), names[entity])):
                names[entity] = name
    return captions, names


def _boxes(source: Source, path: Path, names: dict[str, str]) -> list[Box]:
    if not path.is_file():
        return []
    text = _text(path)
    if len(text) > MAX_XML_BYTES or "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
        raise DataError(
            f"{path}: found a document type, or over {MAX_XML_BYTES} characters; expected plain XML, download it again",
            reason="xml_refused",
        )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not XML: {error}; download it again", reason="xml_invalid") from error
    size = _numbers(root.find("size"), ("width", "height"), Place(file=path, key="size"))
    return list(_found(source, root, names, (size[0], size[1]), path))


def _found(
    source: Source, root: ElementTree.Element, names: dict[str, str], size: tuple[float, float], path: Path
) -> Iterator[Box]:  # fmt: skip
    for number, item in enumerate(root.findall("object")):
        corners = item.find("bndbox")
        if corners is None:  # a scene, or something that is not visible
            continue
        place = Place(file=path, key=f"object[{number}].bndbox")
        left, top, right, bottom = _numbers(corners, ("xmin", "ymin", "xmax", "ymax"), place)
        for entity in item.findall("name"):
            name = names.get((entity.text or "").strip())
            if name is None:
                source.left_out["entity_unnamed"] += 1
                continue
            box = box_of(source, name, left, top, right - left, bottom - top, size=size)
            if box is not None:
                yield box


def _numbers(element: ElementTree.Element | None, keys: tuple[str, ...], place: Place) -> list[float]:
    values = [element.findtext(key, "") for key in keys] if element is not None else []
    try:
        return numbers_at([float(value) for value in values], len(keys), place)
    except ValueError:
        raise place.error(values, f"numbers for {', '.join(keys)}") from None
