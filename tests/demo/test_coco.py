"""COCO files: the fields that readers of COCO expect, and the scenes again with nothing lost."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sightline.demo.coco import CATEGORIES, file_name, read_captions, read_scenes, write_annotations
from sightline.demo.describe import captions
from sightline.demo.world import CANVAS, SHAPES, SIGN, Scene, Sign, draw_scene
from tests.demo.scenes import items, scene_of, thing

SCENES = [draw_scene(index, seed=4, unseen="always" if index % 5 == 0 else "never") for index in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("coco") / "annotations"
    write_annotations(SCENES, directory, split="train", seed=4)
    return directory


def content(folder: Path, kind: str) -> Any:
    return json.loads((folder / f"{kind}_train.json").read_text())


def same(one: Scene, other: Scene) -> bool:
    """Equal, but for the last bits of coordinates, which went through corners and back."""
    if (one.index, len(one.things), one.sign is None) != (other.index, len(other.things), other.sign is None):
        return False
    return all(
        a == pytest.approx(b, abs=1e-9) if isinstance(a, float) else a == b
        for left, right in zip(items(one), items(other), strict=True)
        for a, b in ((getattr(left, key), getattr(right, key)) for key in left.__slots__)
    )


def test_scenes_come_back_as_they_were(folder: Path) -> None:
    read = read_scenes(folder / "instances_train.json")
    assert len(read) == len(SCENES)
    assert all(same(one, other) for one, other in zip(read, SCENES, strict=True))


def test_a_difference_is_noticed() -> None:
    assert not same(SCENES[0], SCENES[1])
    here, there = scene_of(thing("red", "star", x=40.0)), scene_of(thing("red", "star", x=40.1))
    assert not same(here, there)
    assert same(here, here)


def test_instances_have_the_fields_of_coco(folder: Path) -> None:
    found = content(folder, "instances")
    assert {"info", "images", "annotations", "categories"} <= set(found)
    assert [image["id"] for image in found["images"]] == [scene.index for scene in SCENES]
    for image in found["images"]:
        assert image == {"id": image["id"], "file_name": f"{image['id']:012d}.png", "width": 96, "height": 96}
    ids = [annotation["id"] for annotation in found["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    categories = {category["id"] for category in found["categories"]}
    for annotation in found["annotations"]:
        assert {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"} <= set(annotation)
        assert annotation["category_id"] in categories
        assert annotation["iscrowd"] == 0
        left, top, width, height = annotation["bbox"]
        assert annotation["area"] == pytest.approx(width * height)
        assert min(left, top) >= -0.2
        assert max(left + width, top + height) <= CANVAS + 0.2


def test_boxes_stand_around_what_is_painted(folder: Path) -> None:
    annotations = iter(content(folder, "instances")["annotations"])
    for scene in SCENES:
        for item in items(scene):
            left, top, width, height = next(annotations)["bbox"]
            assert (left + width / 2, top + height / 2) == pytest.approx((item.x, item.y))
            assert (width, height) == SIGN if isinstance(item, Sign) else (item.diameter, item.diameter)


def test_captions_are_five_per_picture_in_their_order(folder: Path) -> None:
    found = read_captions(folder / "captions_train.json")
    assert list(found) == [scene.index for scene in SCENES]
    for scene in SCENES:
        assert found[scene.index] == captions(scene, random.Random(f"captions/4/{scene.index}"))
    annotations = content(folder, "captions")["annotations"]
    assert {frozenset(annotation) for annotation in annotations} == {frozenset({"id", "image_id", "caption"})}
    assert len({annotation["id"] for annotation in annotations}) == 5 * len(SCENES)


def test_categories_are_the_shapes_and_the_sign() -> None:
    assert [category["name"] for category in CATEGORIES] == [*SHAPES, "sign"]
    assert [category["id"] for category in CATEGORIES] == list(range(1, 8))


def test_the_files_are_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    write_annotations(SCENES, tmp_path, split="train", seed=4)
    for kind in ("instances", "captions"):
        assert (tmp_path / f"{kind}_train.json").read_bytes() == (folder / f"{kind}_train.json").read_bytes()


def test_names_of_files_have_twelve_digits() -> None:
    assert file_name(1_000_007) == "000001000007.png"
