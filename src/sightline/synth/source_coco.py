"""COCO annotations: `captions_SPLIT.json` and `instances_SPLIT.json`, or one of the two.

Comes in: the folder that holds them, or its parent, or one of the files. Goes out: a `Source`. Fields are those of
cocodataset.org, "Data format": boxes are x, y, width, height in pixels, and `iscrowd` marks a box around many things.
The demo's painted world is written in this form too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.errors import ConfigError, DataError
from sightline.synth.context import Box
from sightline.synth.source import (
    Place,
    Source,
    box_of,
    numbers_at,
    objects_at,
    relative,
    size_at,
    size_of_file,
    text_at,
)

_NAME = re.compile(r"(captions|instances)_(.+)\.json")
_BULKY = ("segmentation", "license", "date_captured", "coco_url", "flickr_url")
"""Keys that nothing here reads and that are most of the file: dropped while it is parsed, which saves gigabytes."""


def splits_of(folder: Path) -> dict[str, dict[str, Path]]:
    """`train2017` -> {captions: its file, instances: its file}, in the folder or in `annotations` below it."""
    found: dict[str, dict[str, Path]] = {}
    for directory in (folder / "annotations", folder):
        for path in sorted(directory.glob("*_*.json")) if directory.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match is not None:
                found.setdefault(match[2], {})[match[1]] = path
    return found


def read_coco(path: Path, *, images: Path | None = None, split: str | None = None) -> Source:
    """The contexts of a split, in the order of its images.

    Raises:
        ConfigError: there are several splits and none is named, or the named one is not there.
        DataError: a file is not COCO's; the message names file and key.
    """
    source = Source(format="coco", path=path)
    pictures: dict[str, dict[str, Any]] = {}
    captions: dict[str, list[str]] = {}
    boxes: dict[str, list[Box]] = {}
    for file in _files(path, split):
        tree = _load(file)
        place = Place(file=file)
        names = _pictures(tree, place, pictures)
        categories = _categories(tree, place)
        source.vocabulary |= frozenset(categories.values())
        for annotation, at in objects_at(tree, "annotations", place):
            owner = text_at(annotation, "image_id", at)
            if owner not in names:
                raise at.within("image_id").error(annotation["image_id"], "the id of one of its images")
            if "caption" in annotation:
                caption = annotation["caption"]
                if not isinstance(caption, str):
                    raise at.within("caption").error(caption, "a text")
                captions.setdefault(owner, []).append(caption)
            elif "bbox" in annotation:
                box = _box(source, annotation, at, categories, _size(pictures[owner], images))
                boxes.setdefault(owner, []).extend([box] if box is not None else [])
    stems = {PurePosixPath(picture["file_name"]).stem for picture in pictures.values()}
    for owner, picture in pictures.items():
        name = picture["file_name"]
        identity = PurePosixPath(name).stem if len(stems) == len(pictures) else owner
        source.add(identity, name, captions.get(owner, ()), boxes.get(owner, ()))
    return source


def _files(path: Path, split: str | None) -> list[Path]:
    if path.is_file():
        match = _NAME.fullmatch(path.name)
        both = splits_of(path.parent)[match[2]] if match is not None else {}
        return sorted({path, *both.values()})
    splits = splits_of(path)
    if not splits:
        raise ConfigError(
            f"{path}: no captions_*.json and no instances_*.json in it or in annotations/; name the folder"
        )
    if split is None and len(splits) > 1:
        raise ConfigError(f"{path}: holds the splits {', '.join(splits)}; choose one with --split")
    if split is not None and split not in splits:
        raise ConfigError(f"--split: found {split!r}, {path} holds {', '.join(splits)}")
    return list(splits[split or next(iter(splits))].values())


def _load(path: Path) -> Mapping[str, Any]:
    def slim(found: dict[str, Any]) -> dict[str, Any]:
        for key in _BULKY:
            found.pop(key, None)
        return found

    try:
        tree = json.loads(path.read_bytes(), object_hook=slim)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", reason="file_unreadable") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}; download it again", reason="json_invalid") from error
    if not isinstance(tree, dict):
        raise Place(file=path).error(tree, "an object with images and annotations")
    return tree


def _pictures(tree: Mapping[str, Any], place: Place, known: dict[str, dict[str, Any]]) -> set[str]:
    """Adds the images of a file to those known, by id; returns the ids of this file."""
    own = set()
    for image, at in objects_at(tree, "images", place):
        identity = text_at(image, "id", at)
        own.add(identity)
        name = relative(text_at(image, "file_name", at), at.within("file_name"))
        entry = known.setdefault(identity, {"file_name": name, "size": None})
        if entry["file_name"] != name:
            raise at.within("file_name").error(
                name, f"{entry['file_name']}, as in the other file", "use files of one split"
            )
        entry["size"] = entry["size"] or size_at(image)
    return own


def _size(picture: dict[str, Any], images: Path | None) -> tuple[float, float] | None:
    if picture["size"] is None and "looked" not in picture:
        picture["size"] = size_of_file(picture["file_name"], images)
        picture["looked"] = True
    size: tuple[float, float] | None = picture["size"]
    return size


def _categories(tree: Mapping[str, Any], place: Place) -> dict[str, str]:
    if "categories" not in tree:
        return {}
    return {
        text_at(category, "id", at): " ".join(text_at(category, "name", at).lower().split())
        for category, at in objects_at(tree, "categories", place)
    }


def _box(
    source: Source,
    annotation: Mapping[str, Any],
    at: Place,
    categories: Mapping[str, str],
    size: tuple[float, float] | None,
) -> Box | None:
    category = categories.get(text_at(annotation, "category_id", at))
    if category is None:
        raise at.within("category_id").error(annotation["category_id"], "the id of one of its categories")
    left, top, width, height = numbers_at(annotation["bbox"], 4, at.within("bbox"))
    crowd = bool(annotation.get("iscrowd"))
    return box_of(source, category, left, top, width, height, size=size, crowd=crowd)
