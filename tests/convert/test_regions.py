"""Regions: boxes as the original writes them, both directions, long dialogues cut, boxes on and over the edge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.convert.official import Sample, converted, reasons, refused, said, write

WHERE = "Please provide the bounding box coordinate of the region this sentence describes: "
WHAT = "Please provide a short description for this region: "


def write_refcoco(folder: Path, boxes: list[list[float]], *, sentences: int = 1, split: str = "train") -> None:
    """One reference for each box, all on a picture of 640 x 480."""
    write(folder, "instances.json", {
        "info": {}, "images": [{"id": 581857, "width": 640, "height": 480, "file_name": "COCO_train2014_x.jpg"}],
        "annotations": [{"id": number, "image_id": 581857, "bbox": box, "category_id": 1, "segmentation": [[1.5, 2]]}
                        for number, box in enumerate(boxes)]})  # fmt: skip
    write(folder, "refs(unc).json", [
        {"ref_id": number, "ann_id": number, "image_id": 581857, "split": split, "category_id": 1, "sent_ids": [0],
         "file_name": "COCO_train2014_000000581857_1.jpg",
         "sentences": [{"sent": f"the lady {number} {k}", "raw": "The lady", "tokens": [], "sent_id": k}
                       for k in range(sentences)]}
        for number in range(len(boxes))])  # fmt: skip


def boxes_in(sample: Sample) -> list[str]:
    return [box for text in said(sample) for box in re.findall(r"\[.*\]", text)]


def test_boxes_are_parts_of_the_padded_square_with_two_decimals(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[160, 0, 320, 240]])
    samples, _ = converted("refcoco", tmp_path)
    assert boxes_in(samples[0]) == ["[0.25, 0.12, 0.75, 0.5]"]
    assert samples[0]["image"] == "coco/train2017/000000581857.jpg"
    assert samples[0]["id"] == "000000581857"


@pytest.mark.parametrize(
    ("convention", "written"),
    [("unit", "[0.25, 0.0, 0.75, 0.5]"), ("thousand", "[250, 0, 750, 500]"), ("pixels-xyxy", "[160, 0, 480, 240]")],
)
def test_other_conventions_can_be_asked_for(convention: str, written: str, tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[160, 0, 320, 240]])
    assert boxes_in(converted("refcoco", tmp_path, boxes=convention)[0][0]) == [written]


def test_a_coin_decides_the_direction_the_same_one_every_time(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[10 * n, 20, 100, 50] for n in range(40)])
    samples, tally = converted("refcoco", tmp_path)
    turns = [turn.removeprefix("<image>\n") for sample in samples for turn in said(sample)]
    asked = dict(zip(turns[::2], turns[1::2], strict=True))
    where = {q: a for q, a in asked.items() if q.startswith(WHERE)}
    what = {q: a for q, a in asked.items() if q.startswith(WHAT)}
    assert len(where) + len(what) == len(asked) == tally.used == 40
    assert 10 <= len(where) <= 30
    assert all(re.fullmatch(r"the lady \d+ 0\.", q.removeprefix(WHERE)) for q in where)
    assert all(re.fullmatch(r"\[0\.\d+(, 0\.\d+){3}\]", a) for a in where.values())
    assert all(re.fullmatch(r"\[0\.\d+(, 0\.\d+){3}\]\.", q.removeprefix(WHAT)) for q in what)
    assert all(re.fullmatch(r"The lady \d+ 0\.", a) for a in what.values())
    assert converted("refcoco", tmp_path)[0] == samples
    assert converted("refcoco", tmp_path, seed=1)[0] != samples


def test_dialogues_are_cut_to_fewer_than_ten_exchanges(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[10, 20, 100, 50]] * 5, sentences=4)
    samples, tally = converted("refcoco+", tmp_path)
    assert [len(sample["conversations"]) // 2 for sample in samples] == [9, 9, 2]
    assert all(said(sample)[0].startswith("<image>\n") for sample in samples)
    assert [sample["id"] for sample in samples] == ["000000581857", "000000581857#2", "000000581857#3"]
    assert tally.used == 20


def test_boxes_are_cut_at_the_edge_and_left_out_beyond_it(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[0, 0, 640, 480], [600, -10, 100, 20], [640, 0, 10, 10], [5, 5, 0, 9], [300, 300, 2, 2]])
    samples, tally = converted("refcoco", tmp_path)
    assert boxes_in(samples[0]) == ["[0.0, 0.12, 1.0, 0.88]", "[0.94, 0.12, 1.0, 0.14]"]
    assert reasons(tally) == {"box_outside": 2, "box_too_small": 1}


def test_references_without_box_or_of_another_split_are_counted(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[1, 2, 300, 400]], sentences=2, split="testA")
    head = {"ref_id": 7, "ann_id": 0, "image_id": 581857, "split": "train", "sentences": [{"sent": "x"}]}
    two = [{"sent": "y"}, {"sent": "z"}]
    changes: list[dict[str, Any]] = [{"ann_id": 99}, {"image_id": 5}, {"sentences": [{"sent": " ."}]}]
    refs = [{**head, **change} for change in [*changes, {"split": "testA", "sentences": two}]]
    write(tmp_path, "refs(unc).json", refs)
    assert "no sample is left" in refused("refcoco", tmp_path)
    _, tally = converted("refcoco", tmp_path, split="testA")
    assert reasons(tally) == {"other_split": 3}
    write(tmp_path, "refs(unc).json", [*refs, {**refs[2], "sentences": [{"sent": "man"}]}])
    _, tally = converted("refcoco", tmp_path)
    assert reasons(tally) == {"annotation_missing": 1, "picture_unknown": 1, "phrase_empty": 1, "other_split": 2}


def test_a_pickle_is_not_read_and_the_way_to_json_is_named(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[1, 2, 3, 4]])
    (tmp_path / "refs(unc).json").rename(tmp_path / "refs(unc).p")
    message = refused("refcoco", tmp_path)
    assert "refs(unc).p" in message
    assert "docs/convert.md" in message


def region(number: int, x: int, phrase: str = "food in the container", **change: Any) -> dict[str, Any]:
    at = {"x": x, "y": 10, "width": 200, "height": 100}
    return {"region_id": number, "image_id": 1, "phrase": phrase, **at, **change}


def write_vg(folder: Path, regions: list[dict[str, Any]]) -> None:
    address = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"
    head = {"width": 800, "height": 600, "coco_id": None, "flickr_id": None}
    write(folder, "image_data.json", [{"image_id": 1, "url": address, **head}])
    write(folder, "region_descriptions.json", [{"id": 1, "regions": regions}, {"id": 2, "regions": regions[:1]}])


def test_visual_genome_draws_ten_regions_of_a_picture_in_their_order(tmp_path: Path) -> None:
    write_vg(tmp_path, [region(number, number) for number in range(30)])
    samples, tally = converted("vg", tmp_path)
    assert samples[0]["image"] == "vg/VG_100K_2/1.jpg"
    assert len(samples[0]["conversations"]) == 20
    lefts = [float(box.strip("[").split(",")[0]) for box in boxes_in(samples[0])]
    assert lefts == sorted(lefts)
    assert reasons(tally) == {"over_per_picture": 20, "picture_unknown": 1}
    assert converted("vg", tmp_path)[0] == samples
    assert converted("vg", tmp_path, per_picture=0)[1].used == 30


def test_regions_are_written_as_sentences(tmp_path: Path) -> None:
    write_vg(tmp_path, [region(number, number, "  basket\tis on the bike. ") for number in range(8)])
    samples, _ = converted("vg", tmp_path)
    described = [text for text in said(samples[0]) if "asket" in text]
    assert set(described) <= {
        "Basket is on the bike.", WHERE + "basket is on the bike.", "<image>\n" + WHERE + "basket is on the bike."
    }  # fmt: skip
    assert "Basket is on the bike." in described


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("image_data.json", [{"image_id": 1, "url": "x/1.jpg", "width": 0, "height": 5}], "width: found 0"),
        ("image_data.json", [{"image_id": 1, "width": 9, "height": 5}], "entry 0: found no key 'url'"),
        ("region_descriptions.json", [{"id": 1, "regions": [{"x": 1}]}], "regions[0]: found no key 'y'"),
        ("region_descriptions.json", [{"id": 1, "qas": []}], "found no key 'regions', only id, qas"),
    ],
)
def test_visual_genomes_other_files_are_refused(name: str, content: object, words: str, tmp_path: Path) -> None:
    write_vg(tmp_path, [region(1, 1)])
    path = write(tmp_path, name, content)
    message = refused("vg", tmp_path)
    assert message.startswith(f"{path}:1: ")
    assert words in message


def test_a_box_of_three_numbers_is_refused(tmp_path: Path) -> None:
    write_refcoco(tmp_path, [[1, 2, 3]])
    assert "annotations 0: bbox: found [1, 2, 3], expected 4 numbers" in refused("refcoco", tmp_path)
