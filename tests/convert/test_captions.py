"""Captions of both stages: one for each picture or all, tables with odd lines, the two forms of LLaVA's 558K."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.legacy_templates import PlainTemplate
from sightline.data.parsing import read_samples
from sightline.data.segments import TextSegment
from tests.convert.official import converted, reasons, refused, said, write

ONE_SENTENCE = "<image>\nProvide a one-sentence caption for the provided image."
BRIEF = "<image>\nProvide a brief description of the given image."


def write_textcaps(folder: Path) -> None:
    rows = [("a1", ""), ("a1", "A sign says\nSTOP."), ("b2", "Two bottles."), ("a1", "A red sign.")]
    data = [
        {"image_id": image, "caption_str": text, "caption_id": number, "image_path": f"train_images/{image}.jpg",
         "reference_strs": ["A sign says STOP.", "A red sign."]}
        for number, (image, text) in enumerate(rows)
    ]  # fmt: skip
    write(folder, "TextCaps_0.1_train.json", {"dataset_name": "textcaps", "data": data})
    words = [{"image_id": "a1", "ocr_tokens": ["STOP", "ALL\r\nWAY"]}, {"image_id": "b2", "ocr_tokens": []}]
    write(folder, "TextVQA_Rosetta_OCR_v0.2_train.json", {"data": words})


def test_textcaps_has_the_first_caption_of_each_picture_and_the_words_in_it(tmp_path: Path) -> None:
    write_textcaps(tmp_path)
    samples, tally = converted("textcaps", tmp_path)
    assert said(samples[0]) == [ONE_SENTENCE + "\nReference OCR token: STOP, ALL WAY", "A sign says STOP."]
    assert said(samples[1]) == [ONE_SENTENCE, "Two bottles."]
    assert samples[0]["image"] == "textvqa/train_images/a1.jpg"
    assert reasons(tally) == {"caption_empty": 1, "other_caption": 1}


def test_all_captions_are_samples_of_their_own(tmp_path: Path) -> None:
    write_textcaps(tmp_path)
    samples, tally = converted("textcaps", tmp_path, captions="all", ocr=False)
    assert [(sample["id"], said(sample)[1]) for sample in samples] == [
        ("a1", "A sign says STOP."), ("b2", "Two bottles."), ("a1#2", "A red sign.")]  # fmt: skip
    assert (tally.used, len(tally.pictures)) == (3, 2)


@pytest.mark.parametrize(("year", "name"), [("2017", "000000000009.jpg"), ("2014", "COCO_train2014_000000000009.jpg")])
def test_coco_pictures_have_the_names_of_their_year(year: str, name: str, tmp_path: Path) -> None:
    annotations = [{"image_id": 9, "id": 1, "caption": " A plate of food. "}, {"image_id": 8, "id": 2, "caption": "x"}]
    annotations.append({"image_id": 9, "id": 3, "caption": "Lunch."})
    head = {"info": {}, "licenses": [], "annotations": annotations}  # annotations may come before their pictures
    write(tmp_path, f"captions_train{year}.json", {**head, "images": [{"id": 9, "file_name": name, "width": 640}]})
    samples, tally = converted("coco", tmp_path)
    assert samples[0]["image"] == f"coco/train{year}/{name}"
    assert said(samples[0]) == [ONE_SENTENCE, "A plate of food."]
    assert reasons(tally) == {"picture_unknown": 1, "other_caption": 1}


def test_flickr30k_in_the_official_table(tmp_path: Path) -> None:
    table = "100.jpg#0\tTwo men .\r\n100.jpg#1\tTwo guys .\r\n\r\n101.jpg#0\t\r\n102.jpg\tno number\r\n103.jpg#0\tÄ\r\n"
    path = write(tmp_path, "results_20130124.token", table)
    samples, tally = converted("flickr30k", tmp_path)
    assert [(sample["image"], said(sample)[1]) for sample in samples] == [
        ("flickr30k-images/100.jpg", "Two men ."), ("flickr30k-images/103.jpg", "Ä")]  # fmt: skip
    assert reasons(tally) == {"other_caption": 1, "caption_empty": 1, "row_invalid": 1}
    assert tally.first["row_invalid"] == f"{path}:5"


def test_flickr30k_in_karpathys_splits(tmp_path: Path) -> None:
    images = [
        {"filename": "1.jpg", "split": split, "imgid": 0, "sentences": [{"raw": "A."}, {"raw": "B."}]}
        for split in ("train", "test")
    ]
    write(tmp_path, "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    samples, tally = converted("flickr30k", tmp_path, split="test", captions="all")
    assert [said(sample)[1] for sample in samples] == ["A.", "B."]
    assert reasons(tally) == {"other_split": 2}


@pytest.mark.parametrize("head", ["", "caption\turl\n"])
def test_cc3m_pictures_are_numbered_by_their_rows(head: str, tmp_path: Path) -> None:
    table = "a very typical bus station\thttp://l7.example/1.jpg\n \thttp://x\nno address\nsierra looked stunning\thttp://y\n"
    write(tmp_path, "Train_GCC-training.tsv", head + table)
    samples, tally = converted("cc3m", tmp_path)
    assert [sample["id"] for sample in samples] == ["GCC_train_000000000", "GCC_train_000000003"]
    assert samples[1]["image"] == "GCC_train_000000003.jpg"
    assert said(samples[0]) == [BRIEF, "a very typical bus station"]
    assert reasons(tally) == {"caption_empty": 1, "row_invalid": 1}


def test_stage_1_is_rendered_as_captions_alone(tmp_path: Path) -> None:
    write(tmp_path, "Train_GCC-training.tsv", "a bus\thttp://x\n")
    converted("cc3m", tmp_path)
    segments = PlainTemplate().render(read_samples(tmp_path / "out" / "made.json")[0])
    assert [part.text for part in segments if isinstance(part, TextSegment) and part.trained] == ["a bus\n"]


META = [
    {"id": "004539375", "image": "00453/004539375.jpg", "blip_caption": "select luxury furniture", "url": "http://x"}
]
CHAT = [{"id": "004539375", "image": "00453/004539375.jpg", "conversations": [
    {"from": "human", "value": "Render a clear and concise summary of the photo.\n<image>"},
    {"from": "gpt", "value": "select luxury furniture"}]}]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [("blip_laion_cc_sbu_558k_meta.json", META), ("blip_laion_cc_sbu_558k.json", CHAT)],
    ids=["captions", "conversations"],
)
def test_both_files_of_llavas_558k_say_the_same(name: str, content: object, tmp_path: Path) -> None:
    write(tmp_path, name, content)
    samples, _ = converted("laion-cc-sbu", tmp_path)
    turns = [{"from": "human", "value": BRIEF}, {"from": "gpt", "value": "select luxury furniture"}]
    assert samples == [{"id": "004539375", "image": "00453/004539375.jpg", "conversations": turns}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param(
            "cc3m", '[{"caption": "a"}]', ":1: found another line, expected a caption, a tab", id="JSON for TSV"
        ),
        pytest.param("flickr30k", "image_name| comment\n", ":1: found another line", id="another table"),
        pytest.param("laion-cc-sbu", [{"id": "1", "image": "x.jpg"}], "found no key 'blip_caption'", id="no caption"),
        pytest.param("laion-cc-sbu", [{"id": "1"}], "[0]: found no key 'image'", id="no picture"),
        pytest.param("laion-cc-sbu", ["x"], "found 'x', expected an object", id="texts"),
        pytest.param("coco", {"images": []}, "found no key 'annotations'", id="instances without annotations"),
        pytest.param("textcaps", {"data": [{"image_id": "1"}]}, "data 0: found no key 'caption_str'", id="TextVQA's"),
    ],
)
def test_a_file_that_is_not_the_official_one_is_refused_with_its_place(
    name: str, content: object, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "given.txt", content)
    message = refused(name, path, **({"ocr": False} if name == "textcaps" else {}))
    assert words in message
    assert message.startswith(str(path))


def test_a_table_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "Train_GCC-training.tsv"
    path.write_bytes(b"a\thttp://x\ncaf\xe9\thttp://y\n")
    assert refused("cc3m", path).startswith(f"{path}:2: found bytes that are not UTF-8")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "Train_GCC-training.tsv"
    path.write_text("")
    assert refused("cc3m", path) == f"no sample is left: nothing is in {path}; nothing was written"
