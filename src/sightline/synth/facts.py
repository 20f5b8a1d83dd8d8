"""What captions and boxes decide about a picture.

Comes in: a context, the categories that are boxed wherever they occur. Goes out: counts, places, sides, colors, what is
absent, each only where it is clear. Pure. Does not know who asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import permutations

from sightline.synth.context import Box, Context
from sightline.synth.vocabulary import COLORS, article, is_pair, key, mentions, plural, singular, spoken, words

PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
CLEAR = 0.055
"""How far a center must be from a border between two ninths, and how wide a gap between two boxes must be, in shares of
the picture: no less than in the painted world (5 of 96 pixels)."""
MOST_COUNTED = 8
"""Things of a category that are still counted: from ten on COCO groups them (Lin et al. 2014, section 4)."""
SMALLEST = 0.001
"""Share of the picture below which a thing is too small to ask where it is: 10 x 30 of 640 x 480 pixels."""
MOST_CAPTIONS = 3
"""Captions of a description: five of them say the same thing five times."""


def at(place: str) -> str:
    """The place with its preposition: `in the center`, `on the left`, `at the top left`."""
    if place == "center":
        return "in the center"
    return f"on the {place}" if place in ("left", "right") else f"at the {place}"


def be(count: int, noun: str) -> str:
    """`is`, or `are` for several and for what has no singular."""
    return "is" if count == 1 and not is_pair(noun) else "are"


def enumeration(items: Sequence[str]) -> str:
    """`a dog`, `a dog and a cat`, `a dog, a cat and a bird`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(text: str) -> str:
    """A caption as a sentence: one line, a capital, a full stop."""
    line = re.sub(r"\s+", " ", text).strip().rstrip(" .,;")
    if line.isupper():
        line = line.lower()
    return f"{line[:1].upper()}{line[1:]}" + ("" if line.endswith(("!", "?")) else ".")


class Facts:
    """What is clear about one picture. `wording`: a number by which one of several wordings is chosen."""

    def __init__(self, context: Context, vocabulary: Sequence[str], *, wording: int = 0) -> None:
        self.context = context
        self.wording = wording
        self.vocabulary = vocabulary
        self.counts = {category: count for category, count in context.counts().items() if count <= MOST_COUNTED}

    def form(self, *forms: str) -> str:
        """One of several wordings, the same throughout a reply: nothing is asked twice in other words."""
        return forms[self.wording % len(forms)]

    def countable(self) -> list[str]:
        """Categories of which one and several have different names."""
        return [category for category in self.counts if plural(category) != category]

    @cached_property
    def singles(self) -> list[Box]:
        """Things that are the only one of their category."""
        return [box for box in self.context.boxes if self.counts.get(box.category) == 1]

    def placed(self) -> list[tuple[str, str]]:
        """Categories with one thing whose place is clear, and the place."""
        return [(box.category, where) for box in self.singles if (where := place(box)) is not None]

    def apart(self) -> list[tuple[str, str, str]]:
        """Pairs of such categories of which one lies clearly beside the other: (dog, left of, cat)."""
        big = [box for box in self.singles if box.area >= SMALLEST]
        found = [(one.category, side(one, other), other.category) for one, other in permutations(big, 2)]
        return [(one, where, other) for one, where, other in found if where is not None]

    @cached_property
    def colors(self) -> list[tuple[str, str]]:
        """Categories with one thing on whose color all captions that name one agree."""
        found = []
        for box in self.singles:
            named = {color for caption in self.context.captions for color in _colors_of(caption, box.category)}
            if len(named) == 1:
                found.append((box.category, named.pop()))
        return found

    @cached_property
    def absent(self) -> list[str]:
        """Categories that are boxed wherever they occur, but not here, and that no caption may mean."""
        boxed = {box.category for box in self.context.boxes}
        written = "\n".join(self.context.captions)
        return [
            category
            for category in self.vocabulary
            if category not in boxed
            and not mentions(written, category)
            and not any(mentions(other, category) for other in boxed)
        ]

    def inventory(self) -> str:
        """`two dogs and a cat`, or nothing."""
        items = [
            article(category) if count == 1 else f"{spoken(count)} {plural(category)}"
            for category, count in self.counts.items()
        ]
        return enumeration(items) if items else ""

    def telling_captions(self) -> list[str]:
        """Captions of which each says at least a third in words that those before it do not have, longest first."""
        told: set[str] = set()
        found = []
        for caption in sorted(self.context.captions, key=lambda caption: (-len(caption), caption)):
            said = {singular(word) for word in words(caption)}
            if said and 3 * len(said - told) >= len(said):
                found.append(caption)
                told |= said
        return found[:MOST_CAPTIONS]


def place(box: Box) -> str | None:
    """The ninth of the picture that the center lies in, where it is clear and the box is neither tiny nor all over."""
    x, y = box.center
    clear = all(abs(value - border) >= CLEAR for value in (x, y) for border in (1 / 3, 2 / 3))
    if not clear or not SMALLEST <= box.area <= 0.5:
        return None
    return PLACES[min(2, int(3 * y))][min(2, int(3 * x))]


def side(one: Box, other: Box) -> str | None:
    """Where the first lies from the second, if there is a gap between them along one axis and none along the other."""
    left, top, right, bottom = one.corners
    left_too, top_too, right_too, bottom_too = other.corners
    across = {"left of": left_too - right, "right of": left - right_too}
    along = {"above": top_too - bottom, "below": top - bottom_too}
    clear = [where for where, gap in (across | along).items() if gap >= CLEAR]
    return clear[0] if len(clear) == 1 else None


def _colors_of(caption: str, category: str) -> list[str]:
    """Colors right in front of the category's name: `a red car`; nothing for `a red and white car`."""
    said = words(caption)
    name = key(category)
    keys = [singular(word) for word in said]
    found = []
    for start in range(1, len(said) - len(name) + 1):
        if tuple(keys[start : start + len(name)]) != name or said[start - 1] not in COLORS:
            continue
        before = said[max(0, start - 3) : start - 1]
        after = said[start + len(name) : start + len(name) + 1]
        if not set(before) & {*COLORS, "and", "or"} and after[:1] != ["and"]:
            found.append("gray" if said[start - 1] == "grey" else said[start - 1])
    return found
