"""The rule-based teacher: writes questions and answers about a scene, as GPT-4 did for LLaVA, but by rules.

Comes in: a `Scene` and a random generator. Goes out: `Exchange`s of nine types, each with a short answer and a
sentence, a detailed description, and a dialogue that reasons. Asks only what the scene decides: a thing is named by
words that fit it alone, places and sides only where they are clear. Does not know pictures, files or tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sightline.demo.describe import (
    article,
    at,
    enumeration,
    name,
    place,
    place_is_clear,
    plural,
    quantity,
    reading_order,
    side,
)
from sightline.demo.world import COLORS, ROUND, SHAPES, UNSEEN_PAIRS, Scene, Thing

SHORT_ANSWER = "Answer the question using a single word or phrase."
"""LLaVA-1.5's response-format prompt (Liu et al. 2023b, section 3.2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One question with its answer in short and as a sentence.

    Attributes:
        about: the pairs of color and shape it turns on.
        things: what one has to look at to answer, the sign aside; none where what is asked for is not there.
    """

    type: str
    question: str
    short: str
    sentence: str
    about: tuple[tuple[str, str], ...] = ()
    things: tuple[Thing, ...] = ()


def references(scene: Scene, thing: Thing, *, hide: str = "") -> list[str]:
    """The shortest descriptions that fit this thing alone, such as `star`, `red object`, `small red star`.

    Args:
        hide: `color`, `shape` or `size`: a part that must not be named because it is asked for.
    """
    found: list[str] = []
    for size, color, shape in ((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)):
        if (hide == "color" and color) or (hide == "shape" and shape) or (hide == "size" and size):
            continue
        text = name(thing, size=bool(size), color=bool(color), shape=bool(shape))
        fits = [
            other
            for other in scene.things
            if name(other, size=bool(size), color=bool(color), shape=bool(shape)) == text
        ]
        if fits == [thing]:
            found.append(text)
    return found


def _pick(scene: Scene, rng: random.Random, *, hide: str = "", clear: bool = False) -> tuple[Thing, str] | None:
    """A thing that can be named, with one of its three shortest names."""
    things = [thing for thing in scene.things if not clear or place_is_clear(thing)]
    rng.shuffle(things)
    for thing in things:
        names = references(scene, thing, hide=hide)
        if names:
            return thing, rng.choice(names[:3])
    return None


def _ask_look(scene: Scene, rng: random.Random, look: Literal["color", "shape"]) -> Exchange | None:
    picked = _pick(scene, rng, hide=look)
    if picked is None:
        return None
    thing, noun = picked
    forms = f"What {look} is the {noun}?", f"What is the {look} of the {noun}?", f"Which {look} does the {noun} have?"
    sentence = f"The {noun} is {thing.color if look == 'color' else article(thing.shape)}."
    short = thing.color if look == "color" else thing.shape
    return Exchange(
        type=look, question=rng.choice(forms), short=short, sentence=sentence, about=(thing.pair,), things=(thing,)
    )


def ask_color(scene: Scene, rng: random.Random) -> Exchange | None:
    return _ask_look(scene, rng, "color")


def ask_shape(scene: Scene, rng: random.Random) -> Exchange | None:
    return _ask_look(scene, rng, "shape")


def ask_count(scene: Scene, rng: random.Random) -> Exchange | None:
    what = rng.choice(("object", "shape", "color", "shape", "color"))
    present = rng.choice(scene.things)
    everywhere = rng.random() < 0.15
    if what == "object":
        noun, matching = "object", list(scene.things)
    elif what == "shape":
        noun = rng.choice(SHAPES) if everywhere else present.shape
        matching = [thing for thing in scene.things if thing.shape == noun]
    else:
        color = rng.choice(tuple(COLORS)) if everywhere else present.color
        noun, matching = f"{color} object", [thing for thing in scene.things if thing.color == color]
    count = len(matching)
    question = rng.choice(
        (
            f"How many {plural(noun)} are there?",
            f"How many {plural(noun)} do you see?",
            f"How many {plural(noun)} are in the picture?",
        )
    )
    sentence = f"There {'is' if count == 1 else 'are'} {quantity(count, noun)}."
    return Exchange(
        type="count",
        question=question,
        short=str(count),
        sentence=sentence,
        about=tuple(thing.pair for thing in matching),
        things=tuple(matching),
    )


def ask_existence(scene: Scene, rng: random.Random) -> Exchange | None:
    """Half yes, half no; a 'no' names a thing that shares its color or its shape with one that is there.

    A 'no' never names an unseen pair: training pictures show none, so it would teach that there are none.
    """
    excluded = UNSEEN_PAIRS | {thing.pair for thing in scene.things}
    present = rng.choice(scene.things)
    if rng.random() < 0.5:
        pair, answer = present.pair, "yes"
    else:
        near = [(color, present.shape) for color in COLORS] + [(present.color, shape) for shape in SHAPES]
        pair, answer = rng.choice([pair for pair in near if pair not in excluded]), "no"
    noun = f"{pair[0]} {pair[1]}"
    question = rng.choice(
        (f"Is there {article(noun)}?", f"Do you see {article(noun)}?", f"Is there {article(noun)} in the picture?")
    )
    sentence = f"Yes, there is {article(noun)}." if answer == "yes" else f"No, there is no {noun}."
    things = tuple(thing for thing in scene.things if thing.pair == pair)
    return Exchange(type="existence", question=question, short=answer, sentence=sentence, about=(pair,), things=things)


def ask_position(scene: Scene, rng: random.Random) -> Exchange | None:
    picked = _pick(scene, rng, clear=True)
    if picked is None:
        return None
    thing, noun = picked
    question = rng.choice(
        (
            f"Where is the {noun}?",
            f"Where in the picture is the {noun}?",
            f"In which part of the picture is the {noun}?",
        )
    )
    where = place(thing)
    return Exchange(
        type="position",
        question=question,
        short=where,
        sentence=f"The {noun} is {at(where)}.",
        about=(thing.pair,),
        things=(thing,),
    )


def _two(scene: Scene, rng: random.Random) -> tuple[Thing, str, Thing, str] | None:
    nameable = [(thing, names) for thing in scene.things if (names := references(scene, thing))]
    if len(nameable) < 2:
        return None
    (one, names_one), (other, names_other) = rng.sample(nameable, 2)
    return one, rng.choice(names_one[:3]), other, rng.choice(names_other[:3])


def ask_relation(scene: Scene, rng: random.Random) -> Exchange | None:
    picked = _two(scene, rng)
    if picked is None or not (sides := side(picked[0], picked[2])):
        return None
    one, noun, other, landmark = picked
    direction = rng.choice(sides)
    answer = direction.removesuffix(" of")
    if answer in ("left", "right"):
        question = f"Is the {noun} left or right of the {landmark}?"
    else:
        question = f"Is the {noun} above or below the {landmark}?"
    return Exchange(
        type="relation",
        question=question,
        short=answer,
        sentence=f"The {noun} is {direction} the {landmark}.",
        about=(one.pair, other.pair),
        things=(one, other),
    )


def ask_size(scene: Scene, rng: random.Random) -> Exchange | None:
    if rng.random() < 0.4:
        picked = _pick(scene, rng, hide="size")
        if picked is None:
            return None
        thing, noun = picked
        return Exchange(
            type="size",
            question=f"Is the {noun} small or large?",
            short=thing.size,
            sentence=f"The {noun} is {thing.size}.",
            about=(thing.pair,),
            things=(thing,),
        )
    two = _two(scene, rng)
    if two is None or two[0].size == two[2].size or any(word in two[1] + two[3] for word in ("small", "large")):
        return None
    one, noun, other, rival = two
    winner, loser = (noun, rival) if one.size == "large" else (rival, noun)
    question = rng.choice(
        (f"Which is larger, the {noun} or the {rival}?", f"What is bigger, the {noun} or the {rival}?")
    )
    return Exchange(
        type="size",
        question=question,
        short=winner,
        sentence=f"The {winner} is larger than the {loser}.",
        about=(one.pair, other.pair),
        things=(one, other),
    )


def ask_reading(scene: Scene, rng: random.Random) -> Exchange | None:
    if scene.sign is None:
        return None
    kind, text = scene.sign.kind, scene.sign.text
    question = rng.choice(
        ("What does the sign say?", f"Which {kind} is on the sign?", f"What {kind} is written in the picture?")
    )
    return Exchange(type="reading", question=question, short=text, sentence=f'The sign says "{text}".')


def ask_reasoning(scene: Scene, rng: random.Random) -> Exchange | None:
    """What could roll, and what would fit inside what."""
    if rng.random() < 0.5:
        picked = _pick(scene, rng, hide="shape")
        if picked is None:
            return None
        thing, noun = picked
        rolls = thing.shape in ROUND
        question = rng.choice((f"Could the {noun} roll?", f"Would the {noun} roll down a slope?"))
        sentence = (
            f"Yes, the {noun} is {article(thing.shape)}, and {article(thing.shape)} is round."
            if rolls
            else f"No, the {noun} is {article(thing.shape)}, and {article(thing.shape)} is not round."
        )
        return Exchange(
            type="reasoning",
            question=question,
            short="yes" if rolls else "no",
            sentence=sentence,
            about=(thing.pair,),
            things=(thing,),
        )
    two = _two(scene, rng)
    if two is None or two[0].size == two[2].size or any(word in two[1] + two[3] for word in ("small", "large")):
        return None
    one, noun, other, box = two
    fits = one.size == "small"
    sentence = (
        f"Yes, the {noun} is small and the {box} is large."
        if fits
        else f"No, the {noun} is large and the {box} is small."
    )
    return Exchange(
        type="reasoning",
        question=f"Would the {noun} fit inside the {box}?",
        short="yes" if fits else "no",
        sentence=sentence,
        about=(one.pair, other.pair),
        things=(one, other),
    )


ASKERS: dict[str, Callable[[Scene, random.Random], Exchange | None]] = {
    "color": ask_color,
    "shape": ask_shape,
    "count": ask_count,
    "existence": ask_existence,
    "position": ask_position,
    "relation": ask_relation,
    "size": ask_size,
    "reading": ask_reading,
    "reasoning": ask_reasoning,
}


def exchanges(scene: Scene, rng: random.Random, *, count: int, types: Sequence[str] = tuple(ASKERS)) -> list[Exchange]:
    """Up to `count` exchanges with different questions, in random order, every one of `types` about equally often."""
    found: dict[str, Exchange] = {}
    due: list[str] = []
    for _ in range(4 * count):
        if len(found) == count:
            break
        due = due or rng.sample(types, len(types))
        exchange = ASKERS[due.pop()](scene, rng)
        if exchange is not None:
            found.setdefault(exchange.question, exchange)
    return list(found.values())


DETAIL_QUESTIONS = (
    "Describe the picture in detail.",
    "What do you see in the picture?",
    "Give a detailed description of the picture.",
    "Tell me everything that is in the picture.",
)


def description(scene: Scene) -> str:
    """Every thing with size, color, shape and place in reading order, then the sign."""
    things = [f"{article(name(thing, size=True))} {at(place(thing))}" for thing in reading_order(scene.things)]
    opening = f"The picture shows {quantity(len(things), 'object')}: {enumeration(things)}."
    if scene.sign is None:
        return opening
    return f'{opening} A sign {at(place(scene.sign))} says "{scene.sign.text}".'


REASONING_QUESTIONS = (
    "If the picture were tilted, what would roll away, and why?",
    "Which objects could roll, and which would stay? Explain.",
)


def reasoning(scene: Scene) -> str:
    """A short chain of thought over all things: which are round, therefore roll, and which stay."""
    things = reading_order(scene.things)
    rolling = [f"the {name(thing)}" for thing in things if thing.shape in ROUND]
    staying = [f"the {name(thing)}" for thing in things if thing.shape not in ROUND]
    if not rolling:
        return f"Nothing would roll, because nothing is round: {enumeration(staying)} would stay."
    would = f"Round objects roll, so {enumeration(rolling)} would roll away."
    return would if not staying else f"{would} {enumeration(staying).capitalize()} would stay."
