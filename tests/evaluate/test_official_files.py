"""Finding a benchmark's files and pictures in whatever folder the user has."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluate.official_files import Folder, Wanted, category_names, picture_names

QUESTIONS = Wanted((r"q_(\w+)\.json",), "q_val.json", truths=(r"a_\1.json",), hints=(r"h_\1.json",))


def folder(root: Path, *names: str) -> Folder:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return Folder(root)


def test_files_are_found_at_any_depth_with_those_of_their_split(tmp_path: Path) -> None:
    found = folder(tmp_path, "deep/q_val.json", "a_val.json", "a_test.json", "other/h_val.json").find(QUESTIONS)
    assert found.questions == [tmp_path / "deep/q_val.json"]
    assert found.truths == [tmp_path / "a_val.json"]
    assert found.hints == [tmp_path / "other/h_val.json"]


def test_files_beside_may_be_absent(tmp_path: Path) -> None:
    found = folder(tmp_path, "q_test.json", "a_val.json").find(QUESTIONS)
    assert (found.truths, found.hints, found.others) == ([], [], [])


def test_of_several_splits_one_is_named(tmp_path: Path) -> None:
    place = folder(tmp_path, "q_val.json", "q_test.json")
    with pytest.raises(DataError, match=r"2 files fit \(q_test.json, q_val.json\); say which by --split"):
        place.find(QUESTIONS)
    found = place.find(QUESTIONS, split="val")
    assert (found.questions, found.others) == ([tmp_path / "q_val.json"], [tmp_path / "q_test.json"])
    with pytest.raises(DataError, match=r"no q_val.json of a split named 'train'"):
        place.find(QUESTIONS, split="train")


def test_several_files_belong_together_where_the_benchmark_has_several(tmp_path: Path) -> None:
    wanted = Wanted((r"set_\w+\.json",), "set_a.json", several=True)
    assert folder(tmp_path, "set_b.json", "x/set_a.json").find(wanted).questions == [
        tmp_path / "set_b.json",
        tmp_path / "x/set_a.json",
    ]


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no q_val\.json in it or below"):
        folder(tmp_path, "other.json").find(QUESTIONS)
    with pytest.raises(DataError, match=r"--data .*none: no such folder"):
        Folder(tmp_path / "none")


def test_a_picture_is_known_by_the_last_parts_of_its_path(tmp_path: Path) -> None:
    place = folder(tmp_path, "images/test/7/image.png", "images/test/8/image.png", "17/image.png")
    assert place.picture(["test/7/image.png"]) == tmp_path / "images/test/7/image.png"
    assert place.picture(["7/image.jpg", "test/8/image.png"]) == tmp_path / "images/test/8/image.png"
    assert place.picture(["test/9/image.png", ""]) is None
    assert place.picture(["17/image.png"]) == tmp_path / "17/image.png"


def test_a_picture_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"picture 1\.jpg is there twice, a/1\.jpg and b/1\.jpg"):
        folder(tmp_path, "a/1.jpg", "b/1.jpg").picture(["1.jpg"])


@pytest.mark.parametrize(
    ("image", "one_of"),
    [
        ("42", "COCO_val2014_000000000042.jpg"),
        ("42", "COCO_test2015_000000000042.jpg"),
        ("42", "000000000042.png"),
        ("42", "42.jpg"),
        ("n123", "n123.jpg"),
        ("VizWiz_val_00000012.jpg", "VizWiz_val_00000012.jpg"),
        ("chart.PNG", "chart.PNG"),
    ],
)
def test_names_of_pictures(image: str, one_of: str) -> None:
    assert one_of in picture_names(image)


def test_mmes_pictures_lie_with_their_category() -> None:
    names = category_names("OCR/0001.jpg")
    assert "OCR/0001.jpg" in names
    assert "OCR/images/0001.png" in names
    assert category_names("OCR/0001") == names
