"""Where boxes and points go: by truth tables, and by dots that are painted and found again in the real pixels."""

from __future__ import annotations

import io
import random
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from sightline.data import image as gateway
from sightline.data.pixels import ImageTransform
from sightline.geometry import CONVENTIONS, Box, Geometry, canvas_factor, model_view

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
GROUND = (122, 116, 104)  # the colour of the padding, so that a dot is all there is to see

Policy = Literal["pad", "crop"]


# ---- truth tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "policy", "point", "seen"),
    [
        pytest.param((640, 480), "pad", (0, 0), (0, 42), id="broad: 80 rows above, halved by 336/640"),
        pytest.param((640, 480), "pad", (640, 480), (336, 294), id="broad: lower right"),
        pytest.param((480, 640), "pad", (0, 0), (42, 0), id="tall"),
        pytest.param((336, 336), "pad", (7, 9), (7, 9), id="square"),
        pytest.param((4, 7), "pad", (0, 0), (Fraction(336, 7), 0), id="the odd column falls to the right"),
        pytest.param((640, 480), "crop", (0, 0), (-56, 0), id="cropped away on the left"),
        pytest.param((640, 480), "crop", (320, 240), (168, 168), id="the middle stays the middle"),
        pytest.param((1000, 667), "crop", (1000, 667), (503 - 83, 336), id="503 columns of 503.7, from column 83 on"),
        pytest.param((8192, 82), "pad", (8192, 82), (336, Fraction((2068 + 41 - 41) * 336, 4096)), id="reduced first"),
    ],
)
def test_a_point_is_seen_where_the_table_says(
    size: tuple[int, int], policy: Policy, point: tuple[int, int], seen: tuple[Fraction, Fraction]
) -> None:
    assert model_view(*size, policy=policy, size=336).forward_point(*point) == seen


@pytest.mark.parametrize("policy", ["pad", "crop"])
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (7, 4), (9000, 100)])
def test_there_and_back_is_exact(size: tuple[int, int], policy: Policy) -> None:
    view = model_view(*size, policy=policy, size=336)
    rng = random.Random(f"{size}{policy}")
    for _ in range(50):
        box = Box.of(*(rng.uniform(-10, 9000) for _ in range(4)))
        assert view.inverse_box(view.forward_box(box)) == box
        assert view.forward_point(*view.inverse_point(box.left, box.top)) == (box.left, box.top)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        pytest.param((10, 20, 30, 40), (10, 20, 30, 40), id="within"),
        pytest.param((-5, 20, 30, 500), (0, 20, 30, 48), id="over two edges"),
        pytest.param((0, 0, 64, 48), (0, 0, 64, 48), id="all of it"),
        pytest.param((64, 0, 70, 10), None, id="beyond the right edge"),
        pytest.param((-9, 0, -1, 10), None, id="before the left edge"),
        pytest.param((5, 5, 5, 9), None, id="without width"),
        pytest.param((9, 5, 5, 9), None, id="inside out"),
    ],
)
def test_what_of_a_box_lies_in_the_picture(box: tuple[int, ...], inside: tuple[int, ...] | None) -> None:
    found = Box.of(*box).within(64, 48)
    assert found.is_empty if inside is None else found == Box.of(*inside)


@pytest.mark.parametrize(
    ("convention", "written"),
    [
        ("llava", "[0.25, 0.12, 0.75, 0.5]"),  # rows start at 80 of 640: (80 + 0) / 640 = 0.125 -> 0.12, to even
        ("unit", "[0.25, 0.0, 0.75, 0.5]"),
        ("thousand", "[250, 0, 750, 500]"),
        ("pixels-xyxy", "[160, 0, 480, 240]"),
        ("pixels-xywh", "[160.0, 0.0, 320.0, 240.0]"),
    ],
)
def test_a_box_is_written_as_the_convention_says(convention: str, written: str) -> None:
    assert str(list(CONVENTIONS[convention].numbers(Box.of_extent(160, 0, 320, 240), 640, 480))) == written


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("size", [(640, 480), (480, 641), (100, 100)])
def test_numbers_lead_back_to_the_box_within_their_rounding(name: str, size: tuple[int, int]) -> None:
    convention, rng = CONVENTIONS[name], random.Random(name)
    step = {"pixels": 1, "picture": max(size), "square": max(size)}[convention.frame] / convention.whole
    for _ in range(50):
        box = Box.of_extent(rng.uniform(0, 50), rng.uniform(0, 50), rng.uniform(1, 50), rng.uniform(1, 50))
        again = convention.box(convention.numbers(box, *size), *size)
        corners = 2 if convention.extent else 1  # both the corner and the extent are rounded
        assert max(abs(a - b) for a, b in zip(box, again, strict=True)) <= corners * step * 10**-convention.decimals


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 5"):
        Geometry.of(0, 5)


# ---- the real pixels -------------------------------------------------------------------------------------------------


def centre_of_dot(pixels: np.ndarray) -> tuple[float, float]:
    """Centre of mass of all that is not ground, in continuous coordinates."""
    mass = pixels.astype(np.float64).sum(0)
    rows, columns = np.indices(mass.shape) + 0.5
    return float((columns * mass).sum() / mass.sum()), float((rows * mass).sum() / mass.sum())


@pytest.mark.parametrize("policy", ["pad", "crop"])
@pytest.mark.parametrize(
    ("size", "dot"),
    [
        pytest.param((640, 480), (200, 60), id="broad"),
        pytest.param((480, 641), (100, 500), id="tall, odd"),
        pytest.param((56, 56), (10, 40), id="as it is"),
        pytest.param((31, 20), (14, 3), id="enlarged"),
        pytest.param((333, 250), (320, 240), id="cropped away"),
        pytest.param((8191, 1001), (4000, 700), id="longer than the canvas"),
    ],
)
def test_a_painted_dot_is_found_within_half_a_pixel(
    policy: Policy, size: tuple[int, int], dot: tuple[int, int]
) -> None:
    transform = ImageTransform(policy=policy, size=56, mean=CLIP_MEAN, std=CLIP_STD)
    width = max(1, max(size) // 40)
    box = Box.of_extent(*dot, width, width)
    plain = Image.new("RGB", size, GROUND)
    painted = plain.copy()
    painted.paste((255, 255, 255), tuple(int(edge) for edge in box))
    difference = transform(painted) - transform(plain)
    seen = model_view(*size, policy=policy, size=56).forward_box(box)
    if seen.within(56, 56).is_empty:
        assert abs(difference).max() < 0.1
        return
    found = centre_of_dot(difference)
    assert abs(found[0] - (seen.left + seen.right) / 2) < 0.5
    assert abs(found[1] - (seen.top + seen.bottom) / 2) < 0.5


def test_a_jpeg_that_is_decoded_smaller_is_a_reduced_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (801, 603)
    monkeypatch.setattr(gateway, "MAX_PIXELS", 200_000)
    scale = gateway.jpeg_scale(*size)
    assert scale == 2
    painted = Image.new("RGB", size)
    painted.paste((255, 255, 255), (600, 400, 640, 440))
    file = io.BytesIO()
    painted.save(file, "JPEG", quality=95)
    opened = gateway.open_image(file.getvalue())
    reduced = Geometry.of(*size).reduced(scale)
    assert opened.size == (reduced.width, reduced.height)
    found = centre_of_dot(np.asarray(opened).transpose(2, 0, 1))
    expected = reduced.forward_point(620, 420)
    assert abs(found[0] - expected[0]) < 0.5
    assert abs(found[1] - expected[1]) < 0.5


@pytest.mark.parametrize(("size", "factor"), [((4096, 10), 1), ((4097, 10), 2), ((10, 8192), 2), ((8193, 90), 3)])
def test_pictures_longer_than_the_canvas_are_reduced(size: tuple[int, int], factor: int) -> None:
    assert canvas_factor(*size) == factor
