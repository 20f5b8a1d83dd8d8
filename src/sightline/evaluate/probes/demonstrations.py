"""Six things that LLaVA's demonstrations showed it doing, or failing at, as questions that can be counted.

Comes in: a side in pixels, how many questions of each, a seed. Goes out: questions with pictures. Each knows its chance
level: what an answer without a look at the picture gets right on average.

- reading: a word at falling heights;
- quadrants: four look-alikes, dogs and muffins, asked for one by one;
- counting: things of one shape among others;
- relations: left, right, above, below;
- binding: which of two things has which color;
- real: whether the picture is a photograph. None is; it is asked both ways, so that a yes-sayer gains nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sightline.evaluate.probes.material import Made
from sightline.evaluate.probes.painting import COLORS, SHAPES, Canvas, Color
from sightline.evaluate.prompts import SHORT

WORDS = (
    "apple", "bread", "chair", "cloud", "dance", "eagle", "field", "glass", "horse", "house", "juice", "knife",
    "lemon", "light", "money", "mouse", "night", "ocean", "paper", "piano", "plant", "queen", "river", "salad",
    "sheep", "snake", "stone", "sugar", "table", "tiger", "train", "water", "whale", "wheel", "woman", "zebra",
)  # fmt: skip
"""Common words of five letters, so that length tells nothing."""
HEIGHTS = (64, 48, 32, 24, 16, 12, 10, 8, 6)
"""Of capitals, in pixels of a picture of `SIDE`; on another side they grow and shrink with it."""
SIDE = 336
"""The input of LLaVA-1.5's encoder: there a pixel painted is a pixel seen."""
MOST = 6
"""Things that are counted."""
QUADRANTS = {"upper left": (0, 0), "upper right": (1, 0), "lower left": (0, 1), "lower right": (1, 1)}

Maker = Callable[[int, int, random.Random], "Draft"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A picture, and the questions about it: text, right answer, options, what more is known."""

    canvas: Canvas
    asked: list[tuple[str, str, tuple[str, ...], dict[str, object]]]


def demonstrations(*, side: int = SIDE, count: int = 60, seed: int = 0, suffix: str = SHORT) -> Iterator[Made]:
    """All questions, probe by probe.

    Args:
        count: pictures of each probe.
        suffix: behind each question; LLaVA-1.5's for short answers.
    """
    for name, make in MAKERS.items():
        for number in range(count):
            draft = make(number, side, random.Random(f"probes/{seed}/{name}/{number}"))
            picture = draft.canvas.finished()
            for part, (text, label, options, more) in enumerate(draft.asked):
                yield Made(
                    id=f"{name}/{number:04}" + (f"/{part}" if len(draft.asked) > 1 else ""),
                    category=name,
                    text=text + suffix,
                    label=label,
                    picture=picture,
                    picture_name=f"{name}-{number:04}",
                    options=options,
                    more={"chance": 1 / len(options) if options else 0.0, **more},
                )


def _reading(number: int, side: int, chance: random.Random) -> Draft:
    canvas = Canvas(side, chance)
    word = chance.choice(WORDS)
    height = max(3, round(HEIGHTS[number % len(HEIGHTS)] * side / SIDE))
    canvas.words(word.upper(), side / 2, side * chance.uniform(0.35, 0.65), height, plate=True)
    asked = "What is the word in the picture?"
    return Draft(canvas=canvas, asked=[(asked, word, (), {"height": height})])


def _quadrants(number: int, side: int, chance: random.Random) -> Draft:
    canvas = Canvas(side, chance)
    asked: list[tuple[str, str, tuple[str, ...], dict[str, object]]] = []
    cell = side / 2
    for place, (name, (column, row)) in enumerate(QUADRANTS.items()):
        is_dog = chance.random() < 0.5
        _look_alike(canvas, (column + 0.5) * cell, (row + 0.5) * cell, cell * 0.7, is_dog, chance)
        options = ("dog", "muffin") if (number + place) % 2 else ("muffin", "dog")
        text = f"What is in the {name} of the picture, a {options[0]} or a {options[1]}?"
        asked.append((text, "dog" if is_dog else "muffin", options, {"quadrant": name}))
    return Draft(canvas=canvas, asked=asked)


def _look_alike(canvas: Canvas, x: float, y: float, size: float, is_dog: bool, chance: random.Random) -> None:
    """A brown disk with three dark dots: a dog's face where they are eyes and a nose and there are ears, a muffin with
    raisins where they lie anyhow and a paper cup is below."""
    brown: Color = (196 + chance.randint(-8, 8), 146 + chance.randint(-8, 8), 88)
    dark: Color = (52, 32, 24)
    dot = size * 0.13
    if is_dog:
        for turn in (-1, 1):
            canvas.disk((150, 100, 56), x + turn * size * 0.4, y - size * 0.14, size * 0.36)
        canvas.disk(brown, x, y, size * 0.84)
        dots = ((-0.17, -0.1), (0.17, -0.1), (0.0, 0.12))
    else:
        canvas.disk((236, 226, 206), x, y + size * 0.2, size * 0.66)
        canvas.disk(brown, x, y, size * 0.84)
        dots = ((-0.22, 0.12), (0.05, -0.22), (0.2, 0.08))
    for right, down in dots:
        shift = 0.0 if is_dog else chance.uniform(-0.05, 0.05)
        canvas.disk(dark, x + (right + shift) * size, y + (down + shift) * size, dot)


def _counting(number: int, side: int, chance: random.Random) -> Draft:
    canvas = Canvas(side, chance)
    wanted = 1 + number % MOST
    shape, other = chance.sample(SHAPES, 2)
    kinds = [shape] * wanted + [other] * chance.randint(0, 3)
    cells = [(column, row) for column in range(3) for row in range(3)]
    for kind, (column, row) in zip(kinds, chance.sample(cells, len(kinds)), strict=True):
        _scattered(canvas, kind, chance.choice(list(COLORS)), column, row, 3, chance)
    options = tuple(str(count) for count in range(1, MOST + 1))
    text = f"How many {shape}s are in the picture?"
    return Draft(canvas=canvas, asked=[(text, str(wanted), options, {"count": wanted})])


def _scattered(
    canvas: Canvas, shape: str, color: str, column: int, row: int, cells: int, chance: random.Random
) -> None:
    """A thing somewhere within a cell of a grid, so that no two touch."""
    cell = canvas.side / cells
    x, y = ((place + 0.5 + chance.uniform(-0.08, 0.08)) * cell for place in (column, row))
    canvas.thing(shape, color, x, y, cell * chance.uniform(0.6, 0.75))


def _two_things(side: int, chance: random.Random) -> tuple[Canvas, list[tuple[str, str, int, int]]]:
    """Two things of different shape and color, in cells of a 3 x 3 grid that differ in column and row."""
    canvas = Canvas(side, chance)
    columns, rows = chance.sample(range(3), 2), chance.sample(range(3), 2)
    looks = zip(chance.sample(SHAPES, 2), chance.sample(list(COLORS), 2), columns, rows, strict=True)
    things = list(looks)
    for shape, color, column, row in things:
        _scattered(canvas, shape, color, column, row, 3, chance)
    return canvas, things


def _relations(number: int, side: int, chance: random.Random) -> Draft:
    canvas, ((shape, color, column, row), (shape2, color2, column2, row2)) = _two_things(side, chance)
    if number % 2:
        label, options, words = ("left" if column < column2 else "right"), ("left", "right"), "to the left or right of"
    else:
        label, options, words = ("above" if row < row2 else "below"), ("above", "below"), "above or below"
    text = f"Is the {color} {shape} {words} the {color2} {shape2}?"
    return Draft(canvas=canvas, asked=[(text, label, options, {"axis": "x" if number % 2 else "y"})])


def _binding(number: int, side: int, chance: random.Random) -> Draft:
    canvas, ((shape, color, _, _), (_, color2, _, _)) = _two_things(side, chance)
    options = (color, color2) if number % 2 else (color2, color)
    text = f"What color is the {shape}, {options[0]} or {options[1]}?"
    return Draft(canvas=canvas, asked=[(text, color, options, {})])


def _real(number: int, side: int, chance: random.Random) -> Draft:
    canvas, _ = _two_things(side, chance)
    options = ("yes", "no")
    return Draft(
        canvas=canvas,
        asked=[
            ("Is this picture a photograph of real things?", "no", options, {}),
            ("Was this picture made by a computer program?", "yes", options, {}),
        ],
    )


MAKERS: dict[str, Maker] = {
    "reading": _reading,
    "quadrants": _quadrants,
    "counting": _counting,
    "relations": _relations,
    "binding": _binding,
    "real": _real,
}
