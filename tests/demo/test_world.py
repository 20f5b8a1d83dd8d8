"""Scenes: the same for the same seed, within the documented sizes, and never with a pair that is held out."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from sightline.demo.world import (
    CANVAS,
    COLORS,
    DIAMETERS,
    MAX_LARGE,
    MAX_THINGS,
    NUMBERS,
    SHAPES,
    SIGN,
    UNSEEN_PAIRS,
    WORDS,
    Scene,
    Sign,
    draw_scene,
)
from tests.demo.scenes import scene_of, thing

MANY: list[Scene] = [draw_scene(index, seed=5) for index in range(400)]


def test_the_world_is_as_large_as_promised() -> None:
    assert CANVAS >= 96
    assert len(COLORS) >= 8
    assert len(SHAPES) >= 6
    assert len(DIAMETERS) == 2
    assert DIAMETERS["small"][1] + 8 < DIAMETERS["large"][0], "the two sizes must be told apart by eye"
    assert len(WORDS) == len(set(WORDS)) > 8
    assert all(number.isdigit() for number in NUMBERS)
    for color, shape in UNSEEN_PAIRS:
        assert color in COLORS
        assert shape in SHAPES


def test_a_scene_is_a_function_of_its_arguments() -> None:
    for index in range(30):
        assert draw_scene(index, seed=5) == MANY[index]
        assert draw_scene(index, seed=6) != MANY[index]
    assert draw_scene(3, seed=5, unseen="any") != MANY[3]
    assert len({scene.things for scene in MANY}) == len(MANY)


def test_scenes_are_those_that_the_parts_were_trained_with() -> None:
    """Other draws would need other parts: the held-out pictures must stay the ones that nobody saw."""
    assert [(item.color, item.shape, item.size, item.x, item.y) for item in draw_scene(4, seed=1).things] == [
        ("purple", "square", "large", 24.6, 26.0),
        ("white", "ring", "small", 71.1, 49.4),
        ("orange", "ring", "large", 64.5, 18.0),
    ]


def test_never_means_never_and_always_means_at_least_one() -> None:
    assert not any(scene.has_unseen_pair for scene in MANY)
    assert not {item.pair for scene in MANY for item in scene.things} & UNSEEN_PAIRS
    always = [draw_scene(index, seed=5, unseen="always") for index in range(200)]
    assert all({item.pair for item in scene.things} & UNSEEN_PAIRS for scene in always)
    assert {pair for scene in always for pair in (item.pair for item in scene.things)} >= UNSEEN_PAIRS
    shares = [draw_scene(index, seed=5, unseen="any").has_unseen_pair for index in range(200)]
    assert 0 < sum(shares) < 200


@pytest.mark.parametrize("unseen", ["never", "always", "any"])
def test_sizes_and_places_are_as_documented(unseen: str) -> None:
    for scene in (draw_scene(index, seed=9, unseen=unseen) for index in range(150)):  # type: ignore[arg-type]
        assert 1 <= len(scene.things) <= MAX_THINGS == 6
        assert sum(item.size == "large" for item in scene.things) <= MAX_LARGE - (scene.sign is not None)
        for item in scene.things:
            smallest, largest = DIAMETERS[item.size]
            assert smallest - 0.05 <= item.diameter <= largest + 0.05
            radius = item.diameter / 2
            assert radius - 0.11 <= item.x <= CANVAS - radius + 0.11
            assert radius - 0.11 <= item.y <= CANVAS - radius + 0.11
        for one, other in itertools.combinations(scene.things, 2):
            distance = math.hypot(one.x - other.x, one.y - other.y)
            assert distance >= 0.9 * (one.diameter + other.diameter) / 2 - 0.3, "they cover each other too much"


def gap(item_x: float, item_y: float, sign: Sign) -> float:
    """From a center to the nearest point of the sign."""
    width, height = SIGN
    nearest_x = min(max(item_x, sign.x - width / 2), sign.x + width / 2)
    nearest_y = min(max(item_y, sign.y - height / 2), sign.y + height / 2)
    return math.hypot(item_x - nearest_x, item_y - nearest_y)


def test_signs_lie_on_the_canvas_and_are_not_covered() -> None:
    signs = [scene for scene in MANY if scene.sign is not None]
    assert 0.2 < len(signs) / len(MANY) < 0.45
    for scene in signs:
        sign = scene.sign
        assert sign is not None
        assert SIGN[0] / 2 < sign.x < CANVAS - SIGN[0] / 2
        assert SIGN[1] / 2 < sign.y < CANVAS - SIGN[1] / 2
        assert sign.text in WORDS + NUMBERS
        assert sign.kind == ("number" if sign.text in NUMBERS else "word")
        assert all(gap(item.x, item.y, sign) >= 0.45 * item.diameter - 0.2 for item in scene.things)


def test_everything_occurs_and_nothing_dominates() -> None:
    shown = [item for scene in MANY for item in scene.things]
    assert set(Counter(len(scene.things) for scene in MANY)) == {1, 2, 3, 4, 5, 6}
    for values, expected in (
        ([item.color for item in shown], len(COLORS)),
        ([item.shape for item in shown], len(SHAPES)),
        ([item.size for item in shown], 2),
    ):
        counts = Counter(values)
        assert len(counts) == expected
        assert max(counts.values()) < 3 * min(counts.values())
    assert len({scene.sign.text for scene in MANY if scene.sign}) > 30


def test_the_order_of_things_says_nothing_about_them() -> None:
    """Large things are placed first; without shuffling, the first thing would always be the same size."""
    firsts = Counter(scene.things[0].size for scene in MANY if len({item.size for item in scene.things}) == 2)
    assert min(firsts.values()) > 0.25 * firsts.total()


def test_an_unseen_pair_is_found_wherever_it_stands() -> None:
    seen, unseen = thing("red", "star"), thing("red", "triangle", x=20)
    assert not scene_of(seen).has_unseen_pair
    assert scene_of(seen, unseen).has_unseen_pair
