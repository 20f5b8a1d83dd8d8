"""Scenes in words: places, captions that name everything, and statements that are exactly the true ones."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from sightline.demo.describe import (
    article,
    at,
    captions,
    enumeration,
    name,
    place,
    place_is_clear,
    plural,
    quantity,
    reading_order,
    side,
    statements,
)
from sightline.demo.world import SIGN, Scene, Sign, draw_scene
from tests.demo.scenes import (
    COLORS,
    PLURALS,
    SHAPES,
    at_place,
    meant,
    place_of,
    scene_of,
    scenes,
    thing,
    with_article,
)

PLACES = [" ".join(filter(None, pair)) or "center" for pair in itertools.product(("top", "", "bottom"),
                                                                                ("left", "", "right"))]  # fmt: skip


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0, 0, "top left"),
        (31.9, 31.9, "top left"),
        (32, 31.9, "top"),
        (63.9, 10, "top"),
        (64, 10, "top right"),
        (10, 32, "left"),
        (48, 48, "center"),
        (95, 63.9, "right"),
        (10, 64, "bottom left"),
        (48, 95.9, "bottom"),
        (96, 96, "bottom right"),
    ],
)
def test_place_is_the_ninth_with_the_center(x: float, y: float, expected: str) -> None:
    assert place(thing("red", "star", x=x, y=y)) == expected
    assert place(Sign(text="cat", x=x, y=y)) == expected


@pytest.mark.parametrize(
    ("x", "y", "clear"),
    [(48, 48, True), (37, 59, True), (36.9, 48, False), (48, 59.1, False), (27, 10, True), (27.1, 10, False),
     (69, 90, True), (68.9, 90, False), (32, 64, False)],
)  # fmt: skip
def test_a_place_is_clear_five_pixels_from_its_borders(x: float, y: float, clear: bool) -> None:
    assert place_is_clear(thing("red", "star", x=x, y=y)) is clear


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (14, 0, ["left of"]),
        (13.9, 0, []),
        (-14, 0, ["right of"]),
        (0, 14, ["above"]),
        (0, -20, ["below"]),
        (30, 30, ["left of", "above"]),
        (-30, 30, ["right of", "above"]),
        (10, -40, ["below"]),
        (0, 0, []),
    ],
)
def test_sides_are_those_that_are_clear(dx: float, dy: float, expected: list[str]) -> None:
    one, other = thing("red", "star", x=48, y=48), thing("blue", "ring", x=48 + dx, y=48 + dy)
    assert side(one, other) == expected
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert side(other, one) == [opposite[word] for word in expected]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (at("center"), "in the center"),
        (at("left"), "on the left"),
        (at("top left"), "at the top left"),
        (at("bottom"), "at the bottom"),
        (article("orange ring"), "an orange ring"),
        (article("object"), "an object"),
        (article("red ring"), "a red ring"),
        (plural("cross"), "crosses"),
        (plural("red box"), "red boxes"),
        (plural("star"), "stars"),
        (quantity(0, "object"), "0 objects"),
        (quantity(1, "cross"), "1 cross"),
        (quantity(2, "cross"), "2 crosses"),
        (enumeration(["a"]), "a"),
        (enumeration(["a", "b"]), "a and b"),
        (enumeration(["a", "b", "c"]), "a, b and c"),
        (name(thing("red", "star")), "red star"),
        (name(thing("red", "star"), size=True), "large red star"),
        (name(thing("red", "star"), color=False), "star"),
        (name(thing("red", "star"), size=True, shape=False), "large red object"),
        (name(thing("red", "star"), color=False, shape=False), "object"),
    ],
)
def test_phrases(words: str, expected: str) -> None:
    assert words == expected


def test_reading_order_goes_row_by_row_and_from_left_to_right() -> None:
    things = [thing("red", "star", x=x, y=y) for x, y in ((80, 10), (10, 31), (40, 90), (60, 50), (20, 63))]
    assert [(item.x, item.y) for item in reading_order(things)] == [(10, 31), (80, 10), (20, 63), (60, 50), (40, 90)]


# ---- captions --------------------------------------------------------------------------------------------------------


def parsed(phrase: str) -> str:
    """A noun phrase without its article."""
    assert phrase == with_article(phrase.split(" ", 1)[1])
    return phrase.split(" ", 1)[1]


def full_names(scene: Scene) -> Counter[str]:
    return Counter(f"{item.size} {item.color} {item.shape} {at_place(item)}" for item in scene.things)


def listed(text: str) -> list[str]:
    return [part for chunk in text.split(", ") for part in chunk.split(" and ")]


def test_the_first_caption_names_every_thing_with_size_color_shape_and_place() -> None:
    for scene in scenes():
        phrases = listed(captions(scene, random.Random(0))[0])
        if scene.sign is not None:
            assert phrases.pop() == f'a sign that says "{scene.sign.text}" {at_place(scene.sign)}'
        assert Counter(map(parsed, phrases)) == full_names(scene)


def test_the_second_caption_counts_things_by_color_and_shape() -> None:
    for scene in scenes():
        text = captions(scene, random.Random(scene.index))[1].rpartition(": ")[2]
        told: Counter[str] = Counter()
        for phrase in listed(text):
            number, noun = phrase.split(" ", 1)
            color, shape = noun.split(" ")
            if number != "1":
                shape = next(one for one, many in PLURALS.items() if many == shape)
            told[f"{color} {shape}"] += int(number)
        assert told == Counter(f"{item.color} {item.shape}" for item in scene.things)


def test_the_third_caption_names_every_thing_with_color_shape_and_place() -> None:
    for scene in scenes():
        phrases = listed(captions(scene, random.Random(0))[2])
        if scene.sign is not None:
            kind = "number" if scene.sign.text.isdigit() else "word"
            assert phrases.pop() == f'the {kind} "{scene.sign.text}" {at_place(scene.sign)}'
        assert Counter(map(parsed, phrases)) == Counter(
            f"{item.color} {item.shape} {at_place(item)}" for item in scene.things
        )


def test_the_other_captions_are_true() -> None:
    for scene in scenes():
        related, summary = captions(scene, random.Random(0))[3:]
        true = {form for forms in statements(scene).values() for form in forms}
        if not related.startswith("a picture of "):
            assert set(listed(related)) <= true
        total = len(scene.things)
        opening, _, ending = summary.partition(", ")
        sign = f' and a sign with the {scene.sign.kind} "{scene.sign.text}"' if scene.sign else ""
        assert opening == f"{total} object{'s' if total > 1 else ''}{sign}"
        assert ending in {f"{at_place(item)} {with_article(f'{item.color} {item.shape}')}" for item in scene.things}


def test_captions_vary_with_the_writer_and_repeat_with_the_seed() -> None:
    scene = draw_scene(3, seed=1)
    assert captions(scene, random.Random(1)) == captions(scene, random.Random(1))
    assert len({tuple(captions(scene, random.Random(seed))) for seed in range(20)}) == 2
    assert len(captions(scene, random.Random(1))) == 5


# ---- statements ------------------------------------------------------------------------------------------------------


def every_noun() -> list[str]:
    """Every noun of a statement: any of size, color and shape, at least one of them."""
    nouns = [
        " ".join(filter(None, (size, color, shape or "object")))
        for size in ("", "small", "large")
        for color in ("", *COLORS)
        for shape in ("", *SHAPES)
    ]
    return [noun for noun in nouns if noun != "object"]


NOUNS = every_noun()


def test_things_and_their_places_are_exactly_the_true_ones() -> None:
    for scene in scenes(30):
        found = statements(scene)
        there = {noun: meant(scene, noun) for noun in NOUNS}
        assert set(found["thing"]) == {with_article(noun) for noun in NOUNS if there[noun]}
        placed = {
            f"{with_article(noun)} {at(where)}"
            for noun in NOUNS
            for where in PLACES
            if any(place_of(item) == where for item in there[noun])
        }
        assert set(found["placed"]) == placed


def test_counts_are_exactly_the_true_ones() -> None:
    """Of objects, of a color, of a shape and of both; of what is there at all."""
    nouns = [" ".join(filter(None, (color, shape or "object"))) for color in ("", *COLORS) for shape in ("", *SHAPES)]
    for scene in scenes(60):
        expected = set()
        for noun in nouns:
            *color, last = noun.split()
            count = len(meant(scene, noun))
            if count:
                expected.add(f"{count} {noun}" if count == 1 else f"{count} {' '.join([*color, PLURALS[last]])}")
        assert set(statements(scene)["count"]) == expected


def test_relations_are_exactly_the_clear_ones() -> None:
    tests = {
        "left of": lambda one, other: other.x - one.x >= 14,
        "right of": lambda one, other: one.x - other.x >= 14,
        "above": lambda one, other: other.y - one.y >= 14,
        "below": lambda one, other: one.y - other.y >= 14,
        "larger than": lambda one, other: (one.size, other.size) == ("large", "small"),
    }
    nouns = [f"{color} {shape}" for color in COLORS for shape in SHAPES] + list(SHAPES)
    for scene in scenes(30):
        expected = set()
        there = [(noun, found) for noun in nouns if (found := meant(scene, noun))]
        for (noun, ones), (landmark, others) in itertools.product(there, repeat=2):
            if (" " in noun) != (" " in landmark):
                continue
            for words, holds in tests.items():
                if words == "larger than" and " " not in noun:
                    continue
                if any(one is not other and holds(one, other) for one in ones for other in others):
                    expected.add(f"{with_article(noun)} {words} {with_article(landmark)}")
        assert set(statements(scene)["relation"]) == expected


def test_a_sign_is_stated_by_its_text_and_place() -> None:
    sign = Sign(text="27", x=2 + SIGN[0] / 2, y=80)
    assert statements(scene_of(thing("red", "star"), sign=sign))["sign"] == [
        'the number "27"',
        'the number "27" at the bottom left',
        "a sign at the bottom left",
    ]
    assert statements(scene_of(thing("red", "star")))["sign"] == []


def test_no_statement_is_longer_than_a_caption_of_the_encoder() -> None:
    longest = max(
        len(re.findall(r"\w+", form)) for scene in scenes(60) for forms in statements(scene).values() for form in forms
    )
    assert longest <= 10
