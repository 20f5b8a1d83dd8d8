"""The painted world: what a scene is, and how one is drawn by lot.

Comes in: a seed and an index. Goes out: a `Scene`, the symbolic truth of one picture, in pixels of its canvas.
Does not know how a scene is painted (`paint`), written down (`coco`) or talked about (`teacher`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Size = Literal["small", "large"]
SIZES: tuple[Size, Size] = ("small", "large")

CANVAS = 96
"""Side of a picture in pixels."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "orange": (255, 140, 15),
    "yellow": (250, 225, 60),
    "green": (40, 155, 60),
    "blue": (40, 90, 210),
    "purple": (150, 60, 185),
    "white": (250, 250, 250),
    "black": (25, 25, 28),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
ROUND = frozenset({"circle", "ring"})
"""The shapes that could roll."""

DIAMETERS: dict[Size, tuple[int, int]] = {"small": (17, 21), "large": (31, 36)}
"""Smallest and largest diameter in pixels. The gap between the two sizes keeps 'small' and 'large' decidable."""

UNSEEN_PAIRS = frozenset({("red", "triangle"), ("blue", "star"), ("green", "ring"), ("yellow", "square")})
"""Pairs of color and shape that no training picture shows, neither to the encoder nor in either stage."""

WORDS = ("cat", "dog", "sun", "bus", "hat", "cup", "key", "map", "box", "pen", "toy", "jam", "egg", "fox", "net", "owl")
NUMBERS = tuple(str(number) for number in range(10, 30))

SIGN = (50, 24)
"""Width and height in pixels of the sign that carries a painted word."""
SIGN_STEP = 4
"""Signs hang at multiples of so many pixels: a small encoder then meets each letter in few places of its patches."""

MAX_THINGS = 6
MAX_LARGE = 3
"""More large things than this do not fit on the canvas beside three small ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One object. `x`, `y` are its center and `diameter` its extent, in pixels of the canvas."""

    color: str
    shape: str
    size: Size
    x: float
    y: float
    diameter: float

    @property
    def pair(self) -> tuple[str, str]:
        return self.color, self.shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """A painted word or number on a small plate; `x`, `y` are its center in pixels."""

    text: str
    x: float
    y: float

    @property
    def kind(self) -> str:
        return "number" if self.text.isdigit() else "word"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What one picture shows. `index` makes its texture and the jitter of its colors repeatable."""

    index: int
    things: tuple[Thing, ...]
    sign: Sign | None

    @property
    def has_unseen_pair(self) -> bool:
        return any(thing.pair in UNSEEN_PAIRS for thing in self.things)


def draw_scene(index: int, *, seed: int, unseen: Literal["never", "always", "any"] = "never") -> Scene:
    """The scene of this index: the same for the same arguments, on every machine.

    Args:
        unseen: whether a pair of `UNSEEN_PAIRS` may occur: `never` for training pictures, `always` (at least one)
            for the pictures that test composition, `any` for text, where a pair is only words.
    """
    rng = random.Random(f"{seed}/{index}/{unseen}")
    while True:
        scene = _try_scene(rng, index, unseen)
        if scene is not None:
            return scene


def _try_scene(rng: random.Random, index: int, unseen: str) -> Scene | None:
    count = rng.choices(range(1, MAX_THINGS + 1), weights=(2, 3, 4, 4, 3, 3))[0]
    sign = _place_sign(rng) if rng.random() < 0.35 else None
    sizes: list[Size] = sorted(rng.choice(SIZES) for _ in range(count))
    if sizes.count("large") > MAX_LARGE - (sign is not None):
        return None
    things: list[Thing] = []
    for number, size in enumerate(sizes):
        pair = _draw_pair(rng, must_be_unseen=unseen == "always" and number == len(sizes) - 1, unseen=unseen)
        thing = _place_thing(rng, pair, size, things, sign)
        if thing is None:
            return None
        things.append(thing)
    rng.shuffle(things)
    return Scene(index=index, things=tuple(things), sign=sign)


def _draw_pair(rng: random.Random, *, must_be_unseen: bool, unseen: str) -> tuple[str, str]:
    if must_be_unseen:
        return rng.choice(sorted(UNSEEN_PAIRS))
    while True:
        pair = rng.choice(tuple(COLORS)), rng.choice(SHAPES)
        if unseen != "never" or pair not in UNSEEN_PAIRS:
            return pair


def _place_sign(rng: random.Random) -> Sign:
    x, y = (rng.randrange(extent // 2 + 2, CANVAS - extent // 2 - 1, SIGN_STEP) for extent in SIGN)
    return Sign(text=rng.choice(WORDS + NUMBERS), x=float(x), y=float(y))


def _place_thing(
    rng: random.Random, pair: tuple[str, str], size: Size, others: list[Thing], sign: Sign | None
) -> Thing | None:
    """A free place for the thing, or None after 40 tries. Neighbors may overlap by a tenth of their radii, no more."""
    for _ in range(40):
        diameter = rng.uniform(*DIAMETERS[size])
        radius = diameter / 2
        x, y = rng.uniform(radius, CANVAS - radius), rng.uniform(radius, CANVAS - radius)
        apart = all(
            (x - other.x) ** 2 + (y - other.y) ** 2 >= (0.9 * (radius + other.diameter / 2)) ** 2 for other in others
        )
        if apart and (sign is None or _clear_of_sign(x, y, radius, sign)):
            return Thing(
                color=pair[0], shape=pair[1], size=size, x=round(x, 1), y=round(y, 1), diameter=round(diameter, 1)
            )
    return None


def _clear_of_sign(x: float, y: float, radius: float, sign: Sign) -> bool:
    width, height = SIGN
    gap_x = max(abs(x - sign.x) - width / 2, 0.0)
    gap_y = max(abs(y - sign.y) - height / 2, 0.0)
    return gap_x**2 + gap_y**2 >= (0.9 * radius) ** 2
