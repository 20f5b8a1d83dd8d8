"""Text for the small language model: scenes as maps of words, descriptions, questions about them, and small talk.

Comes in: an index and a seed. Goes out: a `Document`, a list of text pieces of which some are learnt. A map names what
lies in each of 6 x 6 cells, row by row: a language model that has learnt from text to read a serialised layout is one
that visual tokens can plug into. There are no pictures here, and no code of the world's painter is used.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sightline.demo.describe import captions
from sightline.demo.teacher import (
    DETAIL_QUESTIONS,
    REASONING_QUESTIONS,
    SHORT_ANSWER,
    Exchange,
    description,
    exchanges,
    reasoning,
)
from sightline.demo.world import CANVAS, COLORS, NUMBERS, SHAPES, SIGN, WORDS, Scene, Sign, Thing, draw_scene

SEED = 9001
"""The language model's own scenes: other ones than any seed of the demo's pictures draws."""
CELLS = 6
"""Cells along a side of a map."""
EMPTY = "."

BOS, END, PAD, IMAGE, USER, ASSISTANT = "<s>", "<|end|>", "<pad>", "<image>", "<|user|>", "<|assistant|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Text, or one special token when `special`. `learnt`: the model is trained to say it."""

    text: str
    learnt: bool = False
    special: bool = False


Document = list[Piece]

CURRICULUM = (
    (0, {"caption": 36, "short": 36, "sentences": 8, "detail": 10, "reasoning": 4, "prose": 6}),
    (16_000, {"short": 52, "sentences": 14, "caption": 12, "detail": 5, "reasoning": 5, "prose": 12}),
    (76_800, {"short": 68, "sentences": 14, "caption": 6, "detail": 4, "reasoning": 4, "prose": 4}),
)
"""From which document on, which kinds, in percent. First they name everything on a map more often than they ask about
it: what a map's words mean is learnt sooner from naming than from questions. Questions come last."""

SMALL_TALK = (
    ("Hello!", "Hello! Show me a picture and ask me about it."),
    ("Hi there.", "Hi! What would you like to know?"),
    ("Good morning!", "Good morning! How can I help you?"),
    ("Who are you?", "I am a small assistant that looks at painted pictures."),
    ("What is your name?", "I am called Sightline."),
    ("What can you do?", "I can describe a picture, count its objects and read its sign."),
    ("How are you?", "I am fine, thank you. How are you?"),
    ("Thank you!", "You are welcome!"),
    ("Thanks a lot.", "You are welcome!"),
    ("Goodbye.", "Goodbye! Come back with another picture."),
    ("Can you see pictures?", "Yes, if you give me one."),
    ("Are you a human?", "No, I am a small language model with an eye."),
    ("What colors do you know?", f"I know {', '.join(COLORS)}."),
    ("What shapes do you know?", f"I know {', '.join(SHAPES)}."),
    ("Which shapes are round?", "The circle and the ring are round."),
    ("Which shapes can roll?", "The circle and the ring can roll, because they are round."),
    ("How many corners does a triangle have?", "A triangle has 3 corners."),
    ("How many corners does a square have?", "A square has 4 corners."),
    ("How many points does a star have?", "The stars that I know have 5 points."),
    ("What fits inside a large box?", "Something small fits inside something large."),
    ("What comes after 3?", "4 comes after 3."),
    ("What comes after 5?", "6 comes after 5."),
    ("What is the opposite of left?", "The opposite of left is right."),
    ("What is the opposite of above?", "The opposite of above is below."),
    ("What is the opposite of large?", "The opposite of large is small."),
)


def tile(item: Thing | Sign) -> str:
    """The word that stands in a cell: `redstar` for a small one, `REDSTAR` for a large one, `signcat` for a sign."""
    if isinstance(item, Sign):
        return f"sign{item.text}"
    word = item.color + item.shape
    return word.upper() if item.size == "large" else word


def tiles() -> list[str]:
    """Every word that a map can hold; each is one token of the vocabulary."""
    words = [color + shape for color in COLORS for shape in SHAPES]
    return [EMPTY, *words, *(word.upper() for word in words), *(f"sign{text}" for text in WORDS + NUMBERS)]


def write_map(scene: Scene, rng: random.Random) -> str:
    """The map of a scene, `CELLS` x `CELLS` words.

    How much of a cell a thing must cover to be named in it differs from map to map, as an encoder's patches may
    differ in what they tell; the cell under a thing's center always names it.
    """
    cells = [[EMPTY] * CELLS for _ in range(CELLS)]
    threshold = rng.uniform(0.2, 0.8)
    items: list[Thing | Sign] = [*scene.things, *([scene.sign] if scene.sign else [])]
    for row in range(CELLS):
        for column in range(CELLS):
            shares = {tile(item): _share(item, row, column) for item in items}
            best = max(shares, key=shares.__getitem__)
            if shares[best] >= threshold:
                cells[row][column] = best
    side = CANVAS / CELLS
    for item in items:
        cells[min(CELLS - 1, int(item.y / side))][min(CELLS - 1, int(item.x / side))] = tile(item)
    return "".join(f" {word}" for line in cells for word in line)


def _share(item: Thing | Sign, row: int, column: int) -> float:
    """The share of a cell that the item covers, from a grid of 4 x 4 points."""
    side = CANVAS / CELLS
    inside = 0
    for step in range(16):
        x = (column + (step % 4 + 0.5) / 4) * side
        y = (row + (step // 4 + 0.5) / 4) * side
        if isinstance(item, Sign):
            inside += abs(x - item.x) <= SIGN[0] / 2 and abs(y - item.y) <= SIGN[1] / 2
        else:
            inside += (x - item.x) ** 2 + (y - item.y) ** 2 <= (item.diameter / 2) ** 2
    return inside / 16


def dialogue(context: str, turns: list[tuple[str, str]]) -> Document:
    """A conversation whose first question follows the context."""
    pieces = [Piece(text=BOS, special=True)]
    for number, (question, answer) in enumerate(turns):
        opening = f"{context}\n{question}" if number == 0 and context else question
        pieces += [
            Piece(text=USER, special=True),
            Piece(text=opening),
            Piece(text=ASSISTANT, special=True),
            Piece(text=answer, learnt=True),
            Piece(text=END, learnt=True, special=True),
        ]
    return pieces


def short_turns(asked: list[Exchange]) -> list[tuple[str, str]]:
    """Questions with short answers; the first question says so, the others follow suit, as in LLaVA-1.5's mixture."""
    return [
        (f"{exchange.question}\n{SHORT_ANSWER}" if number == 0 else exchange.question, exchange.short)
        for number, exchange in enumerate(asked)
    ]


def write_document(index: int, *, seed: int = SEED) -> Document:
    """The document of this index."""
    rng = random.Random(f"corpus/{seed}/{index}")
    if rng.random() < 0.05:
        return dialogue("", rng.sample(SMALL_TALK, 3))
    scene = draw_scene(index, seed=seed, unseen="any")
    weights = next(weights for start, weights in reversed(CURRICULUM) if index >= start)
    kind = rng.choices(tuple(weights), weights=tuple(weights.values()))[0]
    layout = write_map(scene, rng)
    if kind == "caption":
        text = rng.choice(captions(scene, rng)[:3])
        return [Piece(text=BOS, special=True), Piece(text=layout), Piece(text=f"{text}\n", learnt=True)]
    if kind == "short":
        return dialogue(layout, short_turns(exchanges(scene, rng, count=10)))
    if kind == "sentences":
        return dialogue(layout, [(asked.question, asked.sentence) for asked in exchanges(scene, rng, count=5)])
    if kind == "detail":
        return dialogue(layout, [(rng.choice(DETAIL_QUESTIONS), description(scene))])
    if kind == "reasoning":
        return dialogue(layout, [(rng.choice(REASONING_QUESTIONS), reasoning(scene))])
    return dialogue(description(scene), short_turns(exchanges(scene, rng, count=7)))
