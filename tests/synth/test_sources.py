"""Annotations of every format become contexts; what is wrong is one line, what is left out is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.demo.coco import write_annotations
from sightline.demo.world import draw_scene
from sightline.errors import ConfigError, DataError, SightlineError
from sightline.synth.context import Box, Context
from sightline.synth.sources import read_source, recognise
from tests.synth.samples import SHARED, YARD, needs_contexts, write_coco, write_contexts


def by_id(path: Path, **options: Any) -> dict[str, Context]:
    return {context.id: context for context in read_source(path, **options).contexts}


# ---- COCO ------------------------------------------------------------------------------------------------------------


def test_coco_captions_and_boxes_of_a_picture_come_together(tmp_path: Path) -> None:
    source = read_source(write_coco(tmp_path))
    dogs, tram = source.contexts
    assert dogs.id == "000000000007"
    assert dogs.image == "000000000007.jpg"
    assert dogs.captions == ("Two dogs sleep.", "A yard with dogs.")
    assert [box.line for box in dogs.boxes] == [
        "dog: [0.100, 0.600, 0.300, 0.800]",
        "dog: [0.950, 0.600, 1.000, 0.800]",
    ]
    assert tram.boxes == (Box(category="person", corners=(0.0, 0.0, 1.0, 1.0), crowd=True),)
    assert source.left_out == {"caption_empty": 1, "box_degenerate": 1}
    assert source.vocabulary == {"person", "dog", "bus"}


@pytest.mark.parametrize(
    "place",
    [
        lambda folder: folder,
        lambda folder: folder / "annotations",
        lambda folder: folder / "annotations" / "captions_mini.json",
        lambda folder: folder / "annotations" / "instances_mini.json",
    ],
)
def test_coco_is_found_from_its_folder_or_either_file(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    write_coco(tmp_path / "annotations")
    assert len(read_source(place(tmp_path)).contexts) == 2


def test_several_splits_want_one_to_be_named(tmp_path: Path) -> None:
    write_coco(tmp_path, split="train2017")
    write_coco(tmp_path, split="val2017")
    with pytest.raises(ConfigError, match="train2017, val2017; choose one with --split"):
        read_source(tmp_path)
    with pytest.raises(ConfigError, match="'test'"):
        read_source(tmp_path, split="test")
    assert len(read_source(tmp_path, split="val2017").contexts) == 2


def test_a_file_with_another_name_is_recognised_by_its_content(tmp_path: Path) -> None:
    write_coco(tmp_path)
    moved = (tmp_path / "instances_mini.json").rename(tmp_path / "mine.json")
    (tmp_path / "captions_mini.json").unlink()
    assert recognise(moved) == "coco"
    assert all(not context.captions for context in read_source(moved).contexts)


def test_sizes_that_are_missing_are_read_from_the_pictures(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "000000000007.jpg"}, {"id": 9, "file_name": "000000000009.jpg"}]
    write_coco(tmp_path, images=images)
    captions = tmp_path / "captions_mini.json"
    captions.write_text(json.dumps({**json.loads(captions.read_text()), "images": images}))
    blind = read_source(tmp_path)
    assert blind.left_out["size_missing"] == 4
    (tmp_path / "images").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "000000000007.jpg")
    seeing = read_source(tmp_path, images=tmp_path / "images")
    assert seeing.left_out["size_missing"] == 2
    assert seeing.contexts[0].boxes[0].corners == (0.1, 0.6, 0.3, 0.8)


def test_pictures_of_the_same_name_in_several_folders_keep_their_numbers(tmp_path: Path) -> None:
    images = [
        {"id": 7, "file_name": "a/1.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "b/1.jpg", "width": 200, "height": 100},
    ]
    write_coco(tmp_path, images=images)
    (tmp_path / "captions_mini.json").unlink()
    assert set(by_id(tmp_path)) == {"7", "9"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": {}}, "instances_mini.json: annotations: found {}, expected a list"),
        ({"annotations": [5]}, "annotations[0]: found 5, expected an object"),
        ({"annotations": [{"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "[0].image_id: found 8"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "[0].category_id: found 3"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]}]}, "[0].bbox: found [0, 0, 1]"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, "0", 1, 1]}]}, "expected 4 numbers"),
        ({"images": [{"id": 7}]}, "images[0].file_name: found None, expected a text"),
        ({"images": [{"id": 7, "file_name": "../../etc/passwd"}]}, "below the folder of the pictures"),
        ({"images": [{"id": 7, "file_name": "other.jpg"}]}, "expected 000000000007.jpg, as in the other file"),
        ({"categories": [{"id": 1}]}, "categories[0].name: found None"),
    ],
)  # fmt: skip
def test_coco_that_is_wrong_is_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write_coco(tmp_path, **changes)
    assert_refused(tmp_path, words)


def assert_refused(path: Path, words: str) -> None:
    with pytest.raises(SightlineError) as refused:
        read_source(path)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_coco_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    path = write_coco(tmp_path) / "captions_mini.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert_refused(tmp_path, "captions_mini.json: not JSON")


def test_the_painted_world_of_the_demo_is_a_source(tmp_path: Path) -> None:
    scenes = [draw_scene(index, seed=5) for index in range(4)]
    write_annotations(scenes, tmp_path / "annotations", split="train", seed=5)
    source = read_source(tmp_path)
    assert [context.image for context in source.contexts] == [f"{index:012d}.png" for index in range(4)]
    assert [len(context.boxes) for context in source.contexts] == [
        len(scene.things) + (scene.sign is not None) for scene in scenes
    ]
    assert not any(source.left_out.values())


# ---- Visual Genome ---------------------------------------------------------------------------------------------------


def write_genome(folder: Path, *, regions: bool = True, objects: bool = True, data: bool = True) -> Path:
    def region(phrase: str, width: int, height: int) -> dict[str, Any]:
        return {"region_id": 1, "phrase": phrase, "x": 0, "y": 0, "width": width, "height": height, "image_id": 1}

    phrases = [region("a red clock", 10, 10), region("the whole street", 800, 500), region("a red clock", 20, 20)]
    phrases += [region(f"leaf {number}", 1, 1) for number in range(30)]
    found = [
        {"object_id": 1, "names": ["Clock"], "x": 80, "y": 60, "w": 400, "h": 300, "synsets": []},
        {"object_id": 2, "names": ["leaf"], "x": 900, "y": 0, "w": 10, "h": 10},
    ]
    if regions:
        (folder / "region_descriptions.json").write_text(json.dumps([{"id": 1, "regions": phrases}]))
    if objects:
        (folder / "objects.json").write_text(
            json.dumps([{"image_id": 1, "objects": found}, {"image_id": 2, "objects": found[:1]}])
        )
    if data:
        addresses = {1: "https://host.example/x/VG_100K_2/1.jpg", 2: "https://host.example/x/VG_100K/2.jpg"}
        (folder / "image_data.json").write_text(
            json.dumps([{"image_id": one, "width": 800, "height": 600, "url": url} for one, url in addresses.items()])
        )
    return folder


def test_genome_phrases_are_captions_and_objects_are_boxes(tmp_path: Path) -> None:
    source = read_source(write_genome(tmp_path))
    one, two = source.contexts
    assert one.image == "VG_100K_2/1.jpg"
    assert one.captions[:2] == ("the whole street", "a red clock")
    assert len(one.captions) == 12
    assert one.boxes == (Box(category="clock", corners=(0.1, 0.1, 0.6, 0.6)),)
    assert two == Context(id="2", image="VG_100K/2.jpg", captions=(), boxes=one.boxes)
    assert source.left_out == {"phrase_surplus": 20, "box_degenerate": 1}
    assert not source.vocabulary


def test_genome_is_read_from_one_file_too(tmp_path: Path) -> None:
    write_genome(tmp_path)
    assert [len(context.boxes) for context in read_source(tmp_path / "objects.json").contexts] == [1, 1]
    assert [len(context.boxes) for context in read_source(tmp_path / "region_descriptions.json").contexts] == [0]


def test_genome_without_sizes_says_so(tmp_path: Path) -> None:
    source = read_source(write_genome(tmp_path, data=False))
    assert source.left_out["size_missing"] == 3
    assert source.contexts[0].image == "VG_100K/1.jpg"


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([{"image_id": 1, "objects": 5}], "objects.json:1[0]: objects: found 5, expected a list"),
        ([{"image_id": 1, "objects": [{"names": []}]}], "objects[0].names: found []"),
        ([{"image_id": 1, "objects": [{"names": ["a"], "x": 1, "y": 1, "w": 1}]}], "objects[0].x, y, w, h"),
        ([{"objects": []}], "id: found None"),
        ([7], "objects.json:1[0]: found 7, expected an object"),
    ],
)
def test_genome_that_is_wrong_is_one_line(tmp_path: Path, objects: Any, words: str) -> None:
    write_genome(tmp_path, objects=False)
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    assert_refused(tmp_path, words)


# ---- Flickr30k Entities ----------------------------------------------------------------------------------------------

XML = """<annotation><filename>77.jpg</filename><size><width>500</width><height>250</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>50</xmin><ymin>25</ymin><xmax>250</xmax><ymax>250</ymax></bndbox></object>
<object><name>1</name><name>2</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
<object><name>9</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object></annotation>"""
SENTENCES = """[/EN#1/people Two young women] wait in [/EN#2/clothing/other red hats] , outside .
[/EN#1/people Women] near [/EN#3/scene a station] .
"""


def write_flickr(folder: Path, *, xml: str | None = XML, sentences: str = SENTENCES) -> Path:
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "Sentences" / "77.txt").write_text(sentences)
    if xml is not None:
        (folder / "Annotations" / "77.xml").write_text(xml)
    return folder


def test_flickr_sentences_lose_their_marks_and_phrases_name_boxes(tmp_path: Path) -> None:
    source = read_source(write_flickr(tmp_path))
    (context,) = source.contexts
    assert context.image == "77.jpg"
    assert context.captions == ("Two young women wait in red hats, outside.", "Women near a station.")
    assert [box.line for box in context.boxes] == [
        "women: [0.100, 0.100, 0.500, 1.000]",
        "women: [0.000, 0.000, 0.100, 0.200]",
        "red hats: [0.000, 0.000, 0.100, 0.200]",
    ]
    assert source.left_out == {"entity_unnamed": 1}


def test_flickr_without_boxes_has_captions(tmp_path: Path) -> None:
    (context,) = read_source(write_flickr(tmp_path, xml=None)).contexts
    assert not context.boxes


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><annotation><size><width>&c;</width></size></annotation>'
)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (LAUGHS, "found a document type"),
        (f"<!-- harmless --><!DOCTYPE x SYSTEM 'file:///etc/passwd'>{XML}", "found a document type"),
        (XML[:-5], "not XML"),
        (XML.replace("<width>500</width>", ""), "77.xml: size: found"),
        (XML.replace("<xmin>50</xmin>", "<xmin>left</xmin>"), "77.xml: object[0].bndbox: found"),
        (XML.replace("<xmin>50</xmin>", "<xmin>nan</xmin>"), "expected 4 numbers"),
        (f"{XML}{' ' * 2**20}", "or over 1048576 characters"),
    ],
)
def test_flickr_boxes_that_are_wrong_or_dangerous_are_one_line(tmp_path: Path, xml: str, words: str) -> None:
    assert_refused(write_flickr(tmp_path, xml=xml), words)


def test_flickr_marks_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    assert_refused(write_flickr(tmp_path, sentences="Fine.\n[/EN#x/people Women] wait.\n"), "77.txt:2: found")


def test_a_comment_in_xml_is_no_document_type(tmp_path: Path) -> None:
    assert read_source(write_flickr(tmp_path, xml=f"<!-- made by hand -->{XML}")).contexts


# ---- the original's contexts -----------------------------------------------------------------------------------------


def test_contexts_come_back_as_they_were_written(tmp_path: Path) -> None:
    source = read_source(write_contexts(tmp_path / "mine.txt", [YARD]))
    assert source.contexts == [YARD]
    assert source.vocabulary == {"dog", "bench", "person"}


def test_categories_that_are_not_of_coco_promise_nothing(tmp_path: Path) -> None:
    odd = Context(id="2", image="2.jpg", captions=(), boxes=(Box(category="unicorn", corners=(0, 0, 1, 1)),))
    assert not read_source(write_contexts(tmp_path / "a.jsonl", [YARD, odd])).vocabulary


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "1", "image": "1.jpg", "captions": "A dog.", "instances": []}', "a.jsonl:2: captions: found 'A dog.'"),
        ('{"id": "1", "captions": ["A dog."], "instances": []}', "a.jsonl:2: image: found None"),
        ('{"image": "1.jpg", "captions": ["A dog."]}', "a.jsonl:2: id: found None"),
        ('{"id": "1", "image": "/1.jpg", "captions": ["A dog."]}', "below the folder of the pictures"),
        (
            '{"id": "1", "image": "1.jpg", "instances": [{"category": "dog", "bbox": [10, 20, 30, 40]}]}',
            "divide pixels",
        ),
        ('{"id": "1", "image": "1.jpg", "instances": [{"bbox": [0, 0, 1, 1]}]}', "instances[0].category: found None"),
        ('{"id": "1", "image": "1.jpg", "captions": ["A dog."]', "a.jsonl"),
        ('{"id": "1", "id": "2", "image": "1.jpg", "captions": ["A dog."]}', "a.jsonl:2"),
        ('{"id": "000000000007", "image": "1.jpg", "captions": ["A dog."]}', "stands there 2 times"),
    ],
)
def test_contexts_that_are_wrong_are_one_line(tmp_path: Path, line: str, words: str) -> None:
    path = write_contexts(tmp_path / "a.jsonl", [YARD])
    path.write_text(path.read_text() + line + "\n")
    assert_refused(path, words)


@needs_contexts
def test_the_eighty_contexts_of_the_original() -> None:
    source = read_source(SHARED)
    assert source.format == "contexts"
    assert len(source.contexts) == 80
    assert sum(len(context.boxes) for context in source.contexts) == 476
    assert len(source.vocabulary) == 66
    assert not any(source.left_out.values())


# ---- which one it is -------------------------------------------------------------------------------------------------


def test_what_is_not_there_or_of_no_format_is_one_line(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nothing", "no such file or folder")
    assert_refused(tmp_path, "none of captions_*.json")
    (tmp_path / "a.json").write_text('[{"question": "?"}]')
    assert_refused(tmp_path / "a.json", "found keys ['question']")
    with pytest.raises(ConfigError, match="did you mean"):
        read_source(tmp_path, format="cocoa")


def test_a_source_without_anything_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "image": "1.jpg", "captions": [" "], "instances": []}\n')
    with pytest.raises(DataError, match="no captions and no boxes"):
        read_source(path)
