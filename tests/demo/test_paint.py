"""The painter: the same picture every time, in which every thing can be told by its color, shape and size."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sightline.demo.paint import BACKGROUNDS, outline, paint
from sightline.demo.world import CANVAS, COLORS, SHAPES, SIGN, UNSEEN_PAIRS, Scene, Sign, draw_scene
from tests.demo.scenes import scene_of, thing

# How far a painted pixel may be from its named color: 12 levels of jitter in each of three channels.
JITTER = 12 * math.sqrt(3)
# And a background from its tone: 9 levels of pattern, and grain of which hardly any exceeds three deviations of 4.
TEXTURE = (9 + 12) * math.sqrt(3)


def pixels(scene: Scene) -> npt.NDArray[np.float64]:
    return np.asarray(paint(scene)).astype(np.float64)


def test_pictures_are_rgb_squares_of_the_canvas() -> None:
    for index in range(5):
        picture = paint(draw_scene(index, seed=1))
        assert (picture.mode, picture.size) == ("RGB", (CANVAS, CANVAS))
    assert CANVAS >= 96


def test_a_picture_is_a_function_of_scene_and_seed() -> None:
    scenes = [draw_scene(index, seed=1) for index in range(20)]
    first = [paint(scene, seed=3).tobytes() for scene in scenes]
    assert [paint(scene, seed=3).tobytes() for scene in scenes] == first
    assert len(set(first)) == len(first)
    assert paint(scenes[0], seed=4).tobytes() != first[0]


def test_the_same_things_on_another_index_have_another_background() -> None:
    item = thing("red", "star")
    assert paint(scene_of(item, index=1)).tobytes() != paint(scene_of(item, index=2)).tobytes()


@pytest.mark.parametrize("color", COLORS)
def test_each_color_stands_out_against_every_background_and_every_other_color(color: str) -> None:
    for background in BACKGROUNDS:
        assert math.dist(COLORS[color], background) > JITTER + TEXTURE
    for other in set(COLORS) - {color}:
        assert math.dist(COLORS[color], COLORS[other]) > 2 * JITTER


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_painted_thing_has_its_color_at_its_place(color: str, shape: str, size: str) -> None:
    item = thing(color, shape, size, x=30.0, y=62.0)  # type: ignore[arg-type]
    picture = pixels(scene_of(item, index=len(color) + len(shape)))
    x, y = (item.x, item.y) if shape != "ring" else (item.x + item.diameter / 2 * 0.77, item.y)
    core = picture[round(y) - 1 : round(y) + 1, round(x) - 1 : round(x) + 1].mean((0, 1))
    assert min(COLORS, key=lambda name: math.dist(core, COLORS[name])) == color
    corner = picture[:8, -8:].mean((0, 1))
    assert math.dist(core, corner) > 40


def covered(item_color: str, shape: str, size: str) -> npt.NDArray[np.bool_]:
    """Where a thing changes the picture of an empty canvas."""
    item = thing(item_color, shape, size)  # type: ignore[arg-type]
    difference = np.abs(pixels(scene_of(item)) - pixels(scene_of())).max(-1)
    return difference > 12


@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_fills_its_box_and_nothing_else(shape: str) -> None:
    item = thing("black", shape)
    rows, columns = np.nonzero(covered("black", shape, "large"))
    radius = item.diameter / 2
    for coordinates, center in ((rows, item.y), (columns, item.x)):
        assert center - radius - 1 <= coordinates.min() <= center - 0.35 * radius
        assert center + 0.35 * radius <= coordinates.max() <= center + radius + 1
    assert math.hypot(*(np.ptp(rows), np.ptp(columns))) > 1.5 * radius


def test_shapes_differ_by_much_more_than_an_edge() -> None:
    areas = {shape: covered("black", shape, "large") for shape in SHAPES}
    for one, other in itertools.combinations(SHAPES, 2):
        assert (areas[one] ^ areas[other]).sum() > 100, f"{one} and {other} look alike"


def test_only_a_ring_has_a_hole() -> None:
    for shape in SHAPES:
        assert covered("black", shape, "large")[47:50, 47:50].all() == (shape != "ring")


def test_large_things_are_clearly_larger() -> None:
    for shape in SHAPES:
        assert covered("black", shape, "large").sum() > 2 * covered("black", shape, "small").sum()


def test_held_out_pairs_are_painted_like_all_others() -> None:
    for color, shape in UNSEEN_PAIRS:
        assert covered(color, shape, "large").sum() > 200


@pytest.mark.parametrize("shape", ["star", "triangle", "square", "cross"])
@pytest.mark.parametrize("turn", [-0.2, 0.0, 0.2])
def test_corners_lie_within_the_circle_and_touch_it(shape: str, turn: float) -> None:
    distances = [math.hypot(x - 10, y - 20) for x, y in outline(shape, 10.0, 20.0, 8.0, turn)]
    assert max(distances) == pytest.approx(8)
    assert len(distances) == {"star": 10, "triangle": 3, "square": 4, "cross": 12}[shape]


@pytest.mark.parametrize("text", ["cat", "29", "owl"])
def test_a_sign_is_a_plate_with_letters_on_it(text: str) -> None:
    for index in range(6):
        plain, signed = scene_of(index=index), scene_of(sign=Sign(text=text, x=40, y=60), index=index)
        changed = np.abs(pixels(plain) - pixels(signed)).max(-1) > 5
        rows, columns = np.nonzero(changed)
        assert (columns.min(), columns.max()) == pytest.approx((40 - SIGN[0] / 2, 40 + SIGN[0] / 2), abs=1)
        assert (rows.min(), rows.max()) == pytest.approx((60 - SIGN[1] / 2, 60 + SIGN[1] / 2), abs=1)
        plate = pixels(signed)[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1].mean(-1)
        dark, bright = (plate < 90).mean(), (plate > 200).mean()
        assert min(dark, bright) > 0.08, "the letters must be seen against the plate"
        assert dark + bright > 0.6


def test_every_text_looks_different() -> None:
    pictures = {
        paint(scene_of(sign=Sign(text=text, x=48, y=48))).tobytes() for text in ("cat", "hat", "10", "16", "19")
    }
    assert len(pictures) == 5


def test_painting_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(paint(draw_scene(2, seed=1)), Image.Image)


def test_the_picture_is_the_one_that_the_parts_were_trained_with() -> None:
    """Another painter would need newly trained parts. Only sixteenths: another Pillow may draw an edge differently."""
    grey = np.asarray(paint(draw_scene(7, seed=1), seed=1).convert("L").reduce(CANVAS // 4)).astype(int)
    expected = [[158, 145, 160, 160], [154, 151, 164, 163], [160, 196, 175, 176], [160, 161, 160, 160]]
    assert np.abs(grey - expected).max() <= 2
