"""Captions: COCO's and TextCaps' files, and what is said of METEOR."""

from __future__ import annotations

from pathlib import Path

from sightline.evaluate.tasks.captions import NOTE, questions
from tests.evaluate.files import Place

COCO = {
    "annotations": [
        {"image_id": 1, "caption": "A cat."},
        {"image_id": 2, "caption": "A dog runs."},
        {"image_id": 1, "caption": "Cats!"},
    ]
}
TEXTCAPS = {
    "data": [
        {"image_id": "x", "caption_str": "a sign", "reference_strs": ["a sign", "the sign"]},
        {"image_id": "x", "caption_str": "the sign", "reference_strs": ["a sign", "the sign"]},
        {"image_id": "y", "caption_str": "a can"},
    ]
}


def test_both_files_give_each_picture_its_references(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert {q.id: q.answers for q in questions([place.write("c.json", COCO)])} == {
        "1": ("A cat.", "Cats!"),
        "2": ("A dog runs.",),
    }
    assert {q.id: q.answers for q in questions([place.write("t.json", TEXTCAPS)])} == {
        "x": ("a sign", "the sign"),
        "y": ("a can",),
    }


def test_figures_and_the_one_that_is_not_computed(tmp_path: Path) -> None:
    answers = [{"image_id": 1, "caption": "A cat"}, {"image_id": 2, "caption": "a dog runs"}]
    found = Place(tmp_path).score("coco-caption", answers, {"c.json": COCO})
    assert found.figures["ROUGE_L"] == 1
    assert found.figures["METEOR"] is None
    assert found.notes == (NOTE,)


def test_missing_captions_give_no_figure_but_one_over_the_rest(tmp_path: Path) -> None:
    found = Place(tmp_path).score("textcaps", {"y": "a can"}, {"t.json": TEXTCAPS})
    assert found.figures["CIDEr"] is None
    assert found.answered_only is not None
    assert found.answered_only["CIDEr"] == 0  # one picture alone
