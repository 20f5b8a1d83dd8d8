"""CHAIR: which mentions are of nothing that is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.evaluate.score import score_files
from sightline.evaluate.tasks.chair import default_synonyms, mentions, plurals, vocabulary

KNOWN = vocabulary(default_synonyms(), default_synonyms())


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("Two dogs and a puppy.", ["dog", "dog"]),
        ("A man eats a hot dog.", ["person", "hot dog"]),
        ("A dog near a fire hydrant", ["dog", "fire hydrant"]),
        ("People watch two buses.", ["person", "bus"]),
        ("Knives beside wine glasses", ["knife", "wine glass"]),
        ("A baby elephant walks.", ["elephant"]),
        ("A baby holds a teddy bear.", ["person", "teddy bear"]),
        ("Three geese in a street.", ["bird"]),
        ("Nothing to see.", []),
        ("", []),
    ],
)
def test_mentions(caption: str, found: list[str]) -> None:
    assert mentions(caption, KNOWN) == found


@pytest.mark.parametrize(
    ("word", "both"),
    [("bus", "buses"), ("knife", "knives"), ("puppy", "puppies"), ("boy", "boys"), ("couch", "couches"),
     ("man", "men"), ("sheep", "sheep"), ("y", "ys")],
)  # fmt: skip
def test_plurals(word: str, both: str) -> None:
    assert plurals(word) == [word, both]


def test_name_of_a_category_means_it_also_where_it_is_a_synonym() -> None:
    assert mentions("a ring and a ball", vocabulary(["ball", "ring"], {"ring": ["ball"]})) == ["ring", "ball"]


def test_table_is_of_the_80_categories_of_coco() -> None:
    assert len(default_synonyms()) == 80
    doubled = [word for words in default_synonyms().values() for word in words]
    assert len(doubled) == len(set(doubled))


def files(folder: Path) -> list[Path]:
    (folder / "instances.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2, 3)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 1, "category_id": 3},
                        {"image_id": 2, "category_id": 2}],
    }))  # fmt: skip
    (folder / "captions.json").write_text(json.dumps({"annotations": [{"image_id": 2, "caption": "A cat on a taxi."}]}))
    (folder / "answers.json").write_text(json.dumps([
        {"image_id": 1, "caption": "A dog beside a cat and a kitten."},
        {"image_id": 2, "caption": "A cat in a car."},
        {"image_id": 3, "caption": "A street."},
    ]))  # fmt: skip
    return [folder / "instances.json", folder / "captions.json"]


def test_shares_of_mentions_and_captions(tmp_path: Path) -> None:
    boxes, captions = files(tmp_path)
    with_captions = score_files("chair", [tmp_path / "answers.json"], [boxes, captions], strict=True).figures
    # five mentions, two of cats that are not there; the car of picture 2 stands in a reference caption
    assert with_captions == {
        "chair_i": 2 / 5, "chair_s": pytest.approx(1 / 3), "coverage": (1 / 2 + 1) / 2, "objects": 5 / 3
    }  # fmt: skip
    boxes_alone = score_files("chair", [tmp_path / "answers.json"], [boxes]).figures
    assert (boxes_alone["chair_i"], boxes_alone["chair_s"]) == (3 / 5, pytest.approx(2 / 3))


def test_own_table_takes_the_place_of_ours(tmp_path: Path) -> None:
    boxes, _ = files(tmp_path)
    (tmp_path / "synonyms.json").write_text(json.dumps({"dog": ["cat"]}))
    figures = score_files("chair", [tmp_path / "answers.json"], [boxes, tmp_path / "synonyms.json"]).figures
    assert figures["objects"] == 4 / 3, "the kitten is no cat here, and a cat is a cat"


def test_missing_captions_are_no_smaller_figure(tmp_path: Path) -> None:
    boxes, _ = files(tmp_path)
    (tmp_path / "answers.json").write_text(json.dumps([{"image_id": 1, "caption": "A dog."}]))
    result = score_files("chair", [tmp_path / "answers.json"], [boxes])
    assert (result.missing, result.figures["chair_i"]) == (2, None)
