"""Pictures that do not help."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.data.image import open_image
from sightline.errors import ConfigError, DataError
from sightline.evaluate.answering import Asked
from sightline.evaluate.blind import GREY, blinded, swapped


@pytest.mark.parametrize(
    "images",
    [
        ["a", "b"],
        ["a", "a", "b"],
        ["a", "b", "a"],
        ["a", "b", "a", "b"],
        ["a", "a", "a", "b"],
        [*"aaabbbccc"],
        [*"abcabcabcabc"],
        [*("a" * 9), "b"],
    ],
)
def test_no_question_is_shown_its_own_picture(images: list[str]) -> None:
    shown = swapped(images)
    assert len(shown) == len(images)
    assert all(other != own and other in images for other, own in zip(shown, images, strict=True))


def test_swapping_takes_every_picture_where_each_question_has_its_own() -> None:
    images = [f"{number}.png" for number in range(11)]
    shown = swapped(images)
    assert sorted(shown) == sorted(images)


def test_swapping_the_pictures_of_one_picture_is_refused() -> None:
    with pytest.raises(DataError, match=r"all questions are about a\.png"):
        swapped(["a.png", "a.png"])


def test_questions_without_a_picture_stay_without_one(tmp_path: Path) -> None:
    asked = [Asked(0, "?", (tmp_path / "a.png",)), Asked(1, "?"), Asked(2, "?", (tmp_path / "b.png",))]
    assert [one.pictures for one in blinded(asked, "swap")] == [(tmp_path / "b.png",), (), (tmp_path / "a.png",)]


def test_a_grey_picture_is_as_large_as_the_one_that_it_stands_for(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "a.png")
    (shown,) = blinded([Asked(5, "What color?", (tmp_path / "a.png",))], "grey")
    assert (shown.number, shown.prompt) == (5, "What color?")
    (grey,) = shown.pictures
    assert isinstance(grey, bytes)
    picture = open_image(grey)
    assert picture.size == (40, 30)
    assert picture.getcolors() == [(1200, GREY)]


def test_another_way_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--blind gray: expected swap or grey; did you mean .grey"):
        blinded([], "gray")
