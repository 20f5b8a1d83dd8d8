"""Text for the small language model: scenes as maps of words, descriptions, questions about them, and small talk.

Comes in: an index and a seed. Goes out: a `Document`, a list of text pieces of which some are learnt. A map lists the
cells of a 6 x 6 grid, row by row, each with what lies in it (`c2 redstar`): a language model that has learnt from text
to read a serialised layout is one that visual tokens can plug into. There are no pictures here, and no code of the
world's painter is used.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sightline.demo.describe import at, captions, name, place, reading_order, side
from sightline.demo.teacher import (
    DETAIL_QUESTIONS,
    REASONING_QUESTIONS,
    SHORT_ANSWER,
    Exchange,
    description,
    exchanges,
    reasoning,
    references,
)
from sightline.demo.world import CANVAS, COLORS, NUMBERS, SHAPES, SIGN, SIZES, WORDS, Scene, Sign, Thing, draw_scene

SEED = 9001
"""The language model's own scenes: other ones than any seed of the demo's pictures draws."""
CELLS = 6
"""Cells along a side of a map."""
EMPTY = "."

BOS, END, PAD, IMAGE, USER, ASSISTANT = "<s>", "<|end|>", "<pad>", "<image>", "<|user|>", "<|assistant|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Text, or one special token when `special`.

    `learnt`: the model is trained to say it. `shared`: its words share one position, a cell's name and what lies there.
    """

    text: str
    learnt: bool = False
    special: bool = False
    shared: bool = False


Document = list[Piece]

SHARED_FROM = 88_064
"""From this document on the words of each cell share a position, their embeddings added up, as a patch's features say
at once what it shows and where. Before, the name of the cell stands in front of what lies in it."""
SPELT_FROM = 112_000
"""From this document on a thing is spelt `red star small`, not `redstar`: as a sum of words, a color and a shape that a
connector has never seen together are no more to it than the two alone."""

CURRICULUM = (
    (0, {"find": 40, "caption": 30, "compare": 5, "short": 15, "prose": 5, "sentences": 5}),
    (
        12_800,
        {"find": 26, "caption": 8, "compare": 16, "short": 36, "prose": 4, "sentences": 4, "detail": 3, "reasoning": 3},
    ),
    (
        48_128,
        {"hard": 50, "short": 25, "find": 8, "compare": 5, "sentences": 5, "caption": 3, "detail": 2, "reasoning": 2},
    ),
    (56_064, {"cards": 60, "hard": 20, "short": 10, "find": 3, "compare": 3, "sentences": 2, "caption": 2}),
    (
        72_000,
        {
            "cards": 15,
            "hard": 35,
            "short": 30,
            "find": 4,
            "compare": 4,
            "sentences": 6,
            "caption": 2,
            "detail": 2,
            "reasoning": 2,
        },
    ),
    (
        SHARED_FROM,
        {"short": 38, "hard": 37, "find": 5, "compare": 5, "sentences": 5, "caption": 5, "detail": 3, "reasoning": 2},
    ),
    (
        SPELT_FROM,
        {"full": 33, "short": 26, "hard": 26, "detail": 3, "find": 4, "compare": 3, "sentences": 3, "reasoning": 2},
    ),
)
"""From which document on, which kinds, in percent. First they name what is on a map more often than they ask about it:
what a map's words mean is learnt sooner from naming than from questions. Hard questions and cards follow: English says
"red star", so that everywhere else only the way from a color to a shape is practised, and never the way to a place.
At the end it names everything on a map in order once more, now with all words of a cell in one position.
"""

HARD_TYPES = ("color", "color", "position", "position", "relation", "relation", "count", "existence")
"""Types of questions that are learnt last, as often as a document of kind "hard" asks them."""

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


def map_words() -> list[str]:
    """Every word that a map can hold; each is one token of the vocabulary."""
    words = [color + shape for color in COLORS for shape in SHAPES]
    cells = [cell_name(row, column) for row in range(CELLS) for column in range(CELLS)]
    return [EMPTY, *cells, *words, *(word.upper() for word in words), *(f"sign{text}" for text in WORDS + NUMBERS)]


SPELLING = {
    word: f"{color} {shape} {size}"
    for color in COLORS
    for shape in SHAPES
    for word, size in ((color + shape, "small"), ((color + shape).upper(), "large"))
}
"""What lies in a cell, in words of its own: `REDSTAR` is `red star large`."""


def cell_name(row: int, column: int) -> str:
    """`a1` for the first cell of the first row, `f6` for the last of the last, as on a chessboard seen from above."""
    return f"{'abcdef'[column]}{row + 1}"


def write_map(scene: Scene, rng: random.Random) -> str:
    """The map of a scene: cells with what lies in them, row by row; of the empty cells a share drawn by lot.

    How much of a cell a thing must cover to be named in it differs from map to map, as an encoder's patches may
    differ in what they tell; the cell under a thing's center always names it.
    """
    threshold = rng.uniform(0.2, 0.8)
    empties = rng.choice((0.0, 0.0, rng.random()))
    items: list[Thing | Sign] = [*scene.things, *([scene.sign] if scene.sign else [])]
    extent = CANVAS / CELLS
    centers = {
        (min(CELLS - 1, int(item.y / extent)), min(CELLS - 1, int(item.x / extent))): tile(item) for item in items
    }
    words: list[str] = []
    for row in range(CELLS):
        for column in range(CELLS):
            shares = {tile(item): _share(item, row, column) for item in items}
            best = max(shares, key=shares.__getitem__)
            named = centers.get((row, column)) or (best if shares[best] >= threshold else EMPTY)
            if named != EMPTY or rng.random() < empties:
                words += [cell_name(row, column), named]
    return "".join(f" {word}" for word in words)


def _share(item: Thing | Sign, row: int, column: int) -> float:
    """The share of a cell that the item covers, from a grid of 4 x 4 points."""
    extent = CANVAS / CELLS
    half_x, half_y = (SIGN[0] / 2, SIGN[1] / 2) if isinstance(item, Sign) else (item.diameter / 2, item.diameter / 2)
    steps = [(step + 0.5) / 4 for step in range(4)]
    columns = [dx for step in steps if abs(dx := (column + step) * extent - item.x) <= half_x]
    rows = [dy for step in steps if abs(dy := (row + step) * extent - item.y) <= half_y]
    if isinstance(item, Sign):
        return len(columns) * len(rows) / 16
    return sum(dx**2 + dy**2 <= half_x**2 for dx in columns for dy in rows) / 16


def layout(scene: Scene, rng: random.Random, *, index: int) -> Document:
    """The map of a scene in the form that the document of this index has it in."""
    words = write_map(scene, rng)
    if index < SHARED_FROM:
        return [Piece(text=words)]
    spelling = SPELLING if index >= SPELT_FROM else {}
    cells = zip(words.split()[0::2], words.split()[1::2], strict=True)
    return [Piece(text=f" {cell} {spelling.get(word, word)}", shared=True) for cell, word in cells]


def dialogue(context: Document, turns: list[tuple[str, str]]) -> Document:
    """A conversation whose first question follows the context."""
    pieces = [Piece(text=BOS, special=True)]
    for number, (question, answer) in enumerate(turns):
        opening = [] if number or not context else [*context, Piece(text="\n")]
        pieces += [
            Piece(text=USER, special=True),
            *opening,
            Piece(text=question),
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


def find_turns(scene: Scene, rng: random.Random, *, count: int) -> list[tuple[str, str]]:
    """Look-ups: `star?` is answered with how many there are, and each with its size, color, shape and place."""
    keys = [*COLORS, *SHAPES, *SIZES]
    keys += [word for thing in scene.things for word in (thing.color, thing.shape, name(thing))] * 2
    keys += [f"{rng.choice((thing.size, rng.choice(tuple(COLORS))))} {thing.shape}" for thing in scene.things]
    turns = []
    for key in dict.fromkeys(rng.sample(keys, count)):
        found = [
            thing for thing in reading_order(scene.things) if set(key.split()) <= set(name(thing, size=True).split())
        ]
        listed = "".join(f", {name(thing, size=True)} {at(place(thing))}" for thing in found)
        turns.append((f"{key}?", f"{len(found)}{listed}"))
    if scene.sign is not None:
        turns.insert(rng.randrange(len(turns) + 1), ("sign?", f"{scene.sign.text} {at(place(scene.sign))}"))
    return turns


def compare_turns(scene: Scene, rng: random.Random, *, count: int) -> list[tuple[str, str]]:
    """Comparisons: `star or ring?` is answered with where the first lies beside the second, and which is larger."""
    turns = []
    named = [(thing, names) for thing in scene.things if (names := references(scene, thing))]
    pairs = [(one, other) for one in named for other in named if one is not other]
    for (one, names_one), (other, names_other) in rng.sample(pairs, min(count, len(pairs))):
        size = "equal" if one.size == other.size else "larger" if one.size == "large" else "smaller"
        sides = [direction.removesuffix(" of") for direction in side(one, other)]
        question = f"{rng.choice(names_one[:3])} or {rng.choice(names_other[:3])}?"
        turns.append((question, ", ".join([*sides, size])))
    return turns


def cards(scene: Scene, rng: random.Random) -> str:
    """Everything on the map, a line each, with its color, shape, size and place in any order.

    Whatever stands first, the next words follow from it: `star red small bottom left`, `top left ring black large`.
    Nothing is said twice, or the second time could be copied from the first.
    """
    lines = []
    for thing in rng.sample(scene.things, len(scene.things)):
        words = [thing.color, thing.shape, thing.size, place(thing)]
        lines.append(" ".join(rng.sample(words, len(words))))
    return "".join(f"{line}\n" for line in lines)


def write_document(index: int, *, seed: int = SEED) -> Document:
    """The document of this index."""
    rng = random.Random(f"corpus/{seed}/{index}")
    if rng.random() < 0.05:
        return dialogue([], rng.sample(SMALL_TALK, 3))
    scene = draw_scene(index, seed=seed, unseen="any")
    weights = next(weights for start, weights in reversed(CURRICULUM) if index >= start)
    kind = rng.choices(tuple(weights), weights=tuple(weights.values()))[0]
    cells = layout(scene, rng, index=index)
    if kind == "compare" and len(turns := compare_turns(scene, rng, count=10)) > 1:
        return dialogue(cells, turns)
    if kind in ("find", "compare"):
        return dialogue(cells, find_turns(scene, rng, count=7))
    if kind in ("caption", "full"):
        told = captions(scene, rng)
        text = told[0] if kind == "full" else rng.choice(told[:3])
        return [Piece(text=BOS, special=True), *cells, Piece(text=f"{text}\n", learnt=True)]
    if kind == "cards":
        return [Piece(text=BOS, special=True), *cells, Piece(text="\n"), Piece(text=cards(scene, rng), learnt=True)]
    if kind == "short":
        return dialogue(cells, short_turns(exchanges(scene, rng, count=10)))
    if kind == "hard":
        return dialogue(cells, short_turns(exchanges(scene, rng, count=12, types=HARD_TYPES)))
    if kind == "sentences":
        return dialogue(cells, [(asked.question, asked.sentence) for asked in exchanges(scene, rng, count=5)])
    if kind == "detail":
        return dialogue(cells, [(rng.choice(DETAIL_QUESTIONS), description(scene))])
    if kind == "reasoning":
        return dialogue(cells, [(rng.choice(REASONING_QUESTIONS), reasoning(scene))])
    return dialogue([Piece(text=description(scene))], short_turns(exchanges(scene, rng, count=7)))
