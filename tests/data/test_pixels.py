"""The image policies: an RGB picture -> the pixels that the original would make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from sightline.data.image import open_image
from sightline.data.pixels import (
    ImageTransform,
    level_values,
    pad_and_resize,
    pad_to_square,
    part_of_side,
    resize_and_crop,
)
from sightline.geometry import resized_sides

RECORDED = Path(__file__).parents[3] / "shared" / "parity"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def transform(policy: Literal["pad", "crop"], size: int = 56) -> ImageTransform:
    return ImageTransform(policy=policy, size=size, mean=CLIP_MEAN, std=CLIP_STD)


@pytest.mark.parametrize("policy", ["pad", "crop"])
@pytest.mark.parametrize("name", ["waterview", "tall"])
def test_pixels_equal_those_recorded_from_the_original(policy: Literal["pad", "crop"], name: str) -> None:
    if not RECORDED.is_dir():
        pytest.skip(f"no recordings of the original in {RECORDED}")
    recorded = np.load(RECORDED / "pixel_values.npz")[f"{name}|{'pad' if policy == 'pad' else 'square'}"]
    path = next((RECORDED / "images").glob(f"{name}.*"))
    pixels = transform(policy)(open_image(path.name, root=path.parent))
    levels = np.abs(pixels - recorded) * np.array(CLIP_STD, np.float32)[:, None, None]
    assert levels.max() < 0.5 / 255


@pytest.mark.parametrize("size", [(40, 151), (57, 57), (101, 7), (333, 100), (56, 56)])
def test_crop_equals_the_image_processor_of_transformers(size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 57}, crop_size={"height": 57, "width": 57})
    expected = processor(noise(*size), return_tensors="np")["pixel_values"][0]
    assert np.abs(transform("crop", 57)(noise(*size)) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("size", "side", "corner"),
    [((5, 2), 5, (0, 1)), ((2, 5), 5, (1, 0)), ((5, 5), 5, (0, 0)), ((4, 2), 4, (0, 1)), ((7, 2), 7, (0, 2))],
)
def test_padding_centres_and_an_odd_pixel_falls_right_or_below(
    size: tuple[int, int], side: int, corner: tuple[int, int]
) -> None:
    padded = np.asarray(pad_to_square(Image.new("RGB", size, RED), BLUE))
    expected = np.full((side, side, 3), BLUE, np.uint8)
    expected[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]] = RED
    assert np.array_equal(padded, expected)


@pytest.mark.parametrize(
    ("sides", "resized"),
    [
        ((100, 100), (56, 56)),
        ((1000, 667), (83, 56)),
        ((667, 1000), (56, 83)),
        ((40, 151), (56, 211)),
        ((3, 2), (84, 56)),
    ],
)
def test_the_longer_side_is_cut_to_a_whole_number(sides: tuple[int, int], resized: tuple[int, int]) -> None:
    assert resized_sides(*sides, 56) == resized


def test_the_pad_colour_is_the_mean_cut_not_rounded() -> None:
    assert transform("pad").pad_color == (122, 116, 104)


@pytest.mark.parametrize("policy", ["pad", "crop"])
@pytest.mark.parametrize("size", [(56, 56), (80, 50), (50, 81), (8, 400)])
def test_pixels_are_contiguous_float32(policy: Literal["pad", "crop"], size: tuple[int, int]) -> None:
    pixels = transform(policy)(noise(*size))
    assert pixels.shape == (3, 56, 56)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("policy", ["pad", "crop"])
def test_the_longest_accepted_picture_costs_no_square_of_its_length(
    policy: Literal["pad", "crop"], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    new = Image.new

    def noted(mode: str, size: tuple[int, int], *rest: Any) -> Image.Image:
        made.append(size)
        return new(mode, size, *rest)

    picture = new("RGB", (8192, 82), RED)
    monkeypatch.setattr(Image, "new", noted)
    pixels = transform(policy)(picture)
    assert all(max(size) <= 4096 for size in made)
    assert pixels[0, 28, 28] > pixels[0, 5, 28] + 0.5 if policy == "pad" else pixels[0].std() < 1e-5


SIDES = [
    (640, 480),
    (480, 640),
    (500, 375),
    (640, 427),
    (427, 640),
    (333, 100),
    (100, 333),
    (56, 56),
    (57, 200),
    (9, 31),
]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("size", [56, 57, 96])
def test_what_is_cut_off_is_not_made_and_the_rest_is_the_same_to_the_last_bit(
    sides: tuple[int, int], size: int
) -> None:
    picture = noise(*sides)
    width, height = resized_sides(*sides, size)
    left, top = (width - size) // 2, (height - size) // 2
    whole = picture.resize((width, height), Image.Resampling.BICUBIC)
    assert np.array_equal(resize_and_crop(picture, size), whole.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("size", [56, 57, 96])
def test_padding_between_the_passes_is_padding_before_them(sides: tuple[int, int], size: int) -> None:
    picture = noise(*sides)
    padded = pad_to_square(picture, (122, 116, 104)).resize((size, size), Image.Resampling.BICUBIC)
    assert np.array_equal(pad_and_resize(picture, size, (122, 116, 104)), padded)


@pytest.mark.parametrize(
    ("side", "resized", "start", "size", "part"),
    [
        (640, 448, 56, 336, (80.0, 560.0)),
        (500, 448, 56, 336, (62.5, 437.5)),
        (480, 336, 0, 336, (0.0, 480.0)),
        (640, 503, 83, 336, None),  # 105.606...
        (2**25 + 1, 2**25 + 1, 0, 2**25 + 1, None),  # a whole number, but not one of 32 bits
    ],
)
def test_a_part_of_a_side_is_given_where_it_is_exact(
    side: int, resized: int, start: int, size: int, part: tuple[float, float] | None
) -> None:
    assert part_of_side(side, resized, start, size) == part


def test_the_values_of_the_grey_levels_are_those_of_transformers() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    pixels = (levels * (1 / 255)).astype(np.float32)
    expected = (pixels - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    assert np.array_equal(level_values(CLIP_MEAN, CLIP_STD), expected.T)


@pytest.mark.parametrize(
    ("policy", "size", "frame"),
    [
        ("pad", (56, 56), (0, 0, 1, 1)),
        ("pad", (40, 20), (0, 0.25, 1, 0.75)),
        ("pad", (20, 40), (0.25, 0, 0.75, 1)),
        ("pad", (5, 2), (0, 0.2, 1, 0.6)),  # the odd pixel is below
        ("crop", (56, 56), (0, 0, 1, 1)),
        ("crop", (40, 20), (-0.5, 0, 1.5, 1)),
        ("crop", (20, 40), (0, -0.5, 1, 1.5)),
        ("crop", (40, 151), (0, -77 / 56, 1, 134 / 56)),  # 56 x 211, from row floor(155 / 2) on
    ],
)
def test_where_the_edges_of_a_picture_lie(
    policy: Literal["pad", "crop"], size: tuple[int, int], frame: tuple[float, float, float, float]
) -> None:
    assert transform(policy).frame(*size) == pytest.approx(frame)
