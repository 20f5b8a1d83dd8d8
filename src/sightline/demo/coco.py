"""Scenes as COCO writes them: an instances file with boxes and a captions file.

Comes in: scenes, or such files. Goes out: the files, or the scenes again, with nothing lost. The fields are those of
COCO's annotation format (cocodataset.org, "Data format"); color, size and painted text stand in `attributes`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.demo.describe import captions
from sightline.demo.world import CANVAS, SHAPES, SIGN, Scene, Sign, Thing

CATEGORIES = [
    {"id": number, "name": name, "supercategory": "text" if name == "sign" else "shape"}
    for number, name in enumerate((*SHAPES, "sign"), start=1)
]


def file_name(index: int) -> str:
    """A picture's name, as COCO writes names: twelve digits."""
    return f"{index:012d}.png"


def write_annotations(scenes: Sequence[Scene], folder: Path, *, split: str, seed: int) -> None:
    """Writes `instances_SPLIT.json` and `captions_SPLIT.json`."""
    images = [{"id": s.index, "file_name": file_name(s.index), "width": CANVAS, "height": CANVAS} for s in scenes]
    instances: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for scene in scenes:
        items: list[Thing | Sign] = [*scene.things, *([scene.sign] if scene.sign else [])]
        for item in items:
            instances.append({"id": len(instances) + 1, "image_id": scene.index, **_annotation(item)})
        for text in captions(scene, random.Random(f"captions/{seed}/{scene.index}")):
            sentences.append({"id": len(sentences) + 1, "image_id": scene.index, "caption": text})
    folder.mkdir(parents=True, exist_ok=True)
    info = {"description": "Sightline's painted world", "version": "1.0"}
    head = {"info": info, "images": images}
    (folder / f"instances_{split}.json").write_text(
        json.dumps({**head, "annotations": instances, "categories": CATEGORIES})
    )
    (folder / f"captions_{split}.json").write_text(json.dumps({**head, "annotations": sentences}))


def read_scenes(instances: Path) -> list[Scene]:
    """The scenes that an instances file of the painted world describes, in the order of its images."""
    content = json.loads(instances.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    things: dict[int, list[Thing]] = {image["id"]: [] for image in content["images"]}
    signs: dict[int, Sign] = {}
    for annotation in content["annotations"]:
        left, top, width, height = annotation["bbox"]
        x, y, attributes = left + width / 2, top + height / 2, annotation["attributes"]
        name = names[annotation["category_id"]]
        if name == "sign":
            signs[annotation["image_id"]] = Sign(text=attributes["text"], x=x, y=y)
        else:
            things[annotation["image_id"]].append(
                Thing(color=attributes["color"], shape=name, size=attributes["size"], x=x, y=y, diameter=width)
            )
    return [Scene(index=index, things=tuple(found), sign=signs.get(index)) for index, found in things.items()]


def read_captions(path: Path) -> dict[int, list[str]]:
    """Captions by image id."""
    found: dict[int, list[str]] = {}
    for annotation in json.loads(path.read_text())["annotations"]:
        found.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return found


def _annotation(item: Thing | Sign) -> dict[str, Any]:
    if isinstance(item, Sign):
        name, width, height = "sign", float(SIGN[0]), float(SIGN[1])
        attributes = {"text": item.text}
    else:
        name, width, height = item.shape, item.diameter, item.diameter
        attributes = {"color": item.color, "size": item.size}
    category = next(category["id"] for category in CATEGORIES if category["name"] == name)
    box = [item.x - width / 2, item.y - height / 2, width, height]
    return {
        "category_id": category,
        "bbox": box,
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [],
        "attributes": attributes,
    }
