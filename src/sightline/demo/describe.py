"""Puts a scene into words: references, places, captions, and the short statements that are true of it.

Comes in: a `Scene`. Goes out: English. Knows nothing of pixels beyond the geometry in the scene, nor of questions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from sightline.demo.world import CANVAS, Scene, Sign, Thing

PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
CLEAR_MARGIN = 5.0
"""Pixels that a center must keep from a border between two places for a question about its place to be fair."""
CLEAR_OFFSET = 14.0
"""Pixels that two centers must differ along an axis for 'left of' or 'above' to be fair."""


def place(item: Thing | Sign) -> str:
    """The ninth of the picture in which the center lies."""
    return PLACES[min(2, int(item.y * 3 / CANVAS))][min(2, int(item.x * 3 / CANVAS))]


def place_is_clear(item: Thing | Sign) -> bool:
    """Whether the center keeps `CLEAR_MARGIN` from every border between places."""
    borders = (CANVAS / 3, 2 * CANVAS / 3)
    return all(abs(coordinate - border) >= CLEAR_MARGIN for coordinate in (item.x, item.y) for border in borders)


def at(name: str) -> str:
    """The place with its preposition: `in the center`, `on the left`, `at the top left`."""
    if name == "center":
        return "in the center"
    return f"on the {name}" if name in ("left", "right") else f"at the {name}"


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def name(thing: Thing, *, size: bool = False, color: bool = True, shape: bool = True) -> str:
    """`small red star`, `red object`, `star`: the parts that are asked for."""
    words: list[str] = [thing.size] if size else []
    words += [thing.color] if color else []
    words += [thing.shape if shape else "object"]
    return " ".join(words)


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def quantity(count: int, noun: str) -> str:
    """`1 star`, `2 crosses`, `0 objects`."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def enumeration(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def reading_order(things: Sequence[Thing]) -> list[Thing]:
    """Row of places by row of places, from left to right: the order in which captions name things."""
    return sorted(things, key=lambda thing: (int(thing.y * 3 / CANVAS), thing.x))


def side(one: Thing | Sign, other: Thing | Sign) -> list[str]:
    """Where `one` clearly lies relative to `other`: of `left of`, `right of`, `above`, `below`; at most two."""
    found = []
    if abs(one.x - other.x) >= CLEAR_OFFSET:
        found.append("left of" if one.x < other.x else "right of")
    if abs(one.y - other.y) >= CLEAR_OFFSET:
        found.append("above" if one.y < other.y else "below")
    return found


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """Five captions as five people might write them; the first names every thing with its size, color and place."""
    things = reading_order(scene.things)
    sign = scene.sign
    full = [f"{article(name(thing, size=True))} {at(place(thing))}" for thing in things]
    placed = [f"{article(name(thing))} {at(place(thing))}" for thing in things]
    if sign is not None:
        full.append(f'a sign that says "{sign.text}" {at(place(sign))}')
        placed.append(f'the {sign.kind} "{sign.text}" {at(place(sign))}')
    groups = Counter(name(thing) for thing in things)
    counted = enumeration([quantity(count, noun) for noun, count in groups.items()])
    related = [
        f"{article(name(one))} {direction} {article(name(other))}"
        for one, other in pairwise(things)
        for direction in side(one, other)[:1]
    ]
    total = quantity(len(things), "object")
    return [
        enumeration(full),
        rng.choice((counted, f"{total}: {counted}")),
        enumeration(placed),
        enumeration(related) if related else f"a picture of {counted}",
        f"{total}"
        + (f' and a sign with the {sign.kind} "{sign.text}"' if sign else "")
        + f", {at(place(things[0]))} {article(name(things[0]))}",
    ]


def phrases(item: Thing | Sign) -> dict[str, list[str]]:
    """Short captions that are true of this one thing or sign, by kind."""
    if isinstance(item, Sign):
        named = f'the {item.kind} "{item.text}"'
        return {"sign": [named, f"{named} {at(place(item))}", f"a sign {at(place(item))}"]}
    forms = _forms(item)
    return {"thing": forms, "placed": [f"{form} {at(place(item))}" for form in forms]}


def statements(scene: Scene) -> dict[str, list[str]]:
    """Short captions that are true of the scene, by kind. Complete: a statement of these forms not listed is false."""
    things = list(scene.things)
    nouns = [noun for thing in things for noun in (name(thing), name(thing, color=False), name(thing, shape=False))]
    counted = Counter(["object"] * len(things) + nouns)
    of_each = [phrases(thing) for thing in things]
    return {
        "thing": [form for found in of_each for form in found["thing"]],
        "placed": [form for found in of_each for form in found["placed"]],
        "count": [quantity(count, noun) for noun, count in counted.items()],
        "relation": list(_relations(things)),
        "sign": [] if scene.sign is None else phrases(scene.sign)["sign"],
    }


def _forms(thing: Thing) -> list[str]:
    return [
        article(name(thing, size=size, color=color, shape=shape))
        for size in (False, True)
        for color in (False, True)
        for shape in (False, True)
        if size or color or shape
    ]


def _relations(things: Sequence[Thing]) -> Iterator[str]:
    for one in things:
        for other in things:
            if one is other:
                continue
            for direction in side(one, other):
                yield f"{article(name(one))} {direction} {article(name(other))}"
                yield f"{article(name(one, color=False))} {direction} {article(name(other, color=False))}"
            if one.size == "large" and other.size == "small":
                yield f"{article(name(one))} larger than {article(name(other))}"
