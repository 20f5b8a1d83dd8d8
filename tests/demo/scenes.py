"""Scenes for the tests, and a second opinion about them: truth from coordinates, without the code under test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from sightline.demo.world import Scene, Sign, Size, Thing, draw_scene

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLURALS = {"object": "objects", "cross": "crosses"} | {
    shape: f"{shape}s" for shape in ("circle", "square", "triangle", "star", "ring")
}
SINGULARS = {many: one for one, many in PLURALS.items()}
ROUND = {"circle", "ring"}
THIRD = 32.0


def thing(color: str, shape: str, size: Size = "large", x: float = 48.0, y: float = 48.0) -> Thing:
    return Thing(color=color, shape=shape, size=size, x=x, y=y, diameter=34.0 if size == "large" else 19.0)


def scene_of(*things: Thing, sign: Sign | None = None, index: int = 0) -> Scene:
    return Scene(index=index, things=things, sign=sign)


@cache
def scenes(count: int = 150) -> tuple[Scene, ...]:
    """A mixed bag: with and without unseen pairs."""
    return tuple(
        draw_scene(index, seed=77, unseen=unseen)
        for unseen in ("never", "always", "any")
        for index in range(count // 3)
    )


def words_of(item: Thing) -> set[str]:
    return {item.size, item.color, item.shape, "object"}


def meant(scene: Scene, noun: str) -> list[Thing]:
    """The things that all words of a noun fit: `small red star`, `red object`."""
    return [item for item in scene.things if set(noun.split()) <= words_of(item)]


def the(scene: Scene, noun: str) -> Thing:
    """The one thing that a noun names."""
    found = meant(scene, noun)
    assert len(found) == 1, f'"the {noun}" fits {len(found)} things'
    return found[0]


def with_article(noun: str) -> str:
    return f"an {noun}" if noun.startswith(("a", "e", "i", "o", "u")) else f"a {noun}"


def place_of(item: Thing | Sign) -> str:
    column = "left" if item.x < THIRD else "right" if item.x >= 2 * THIRD else ""
    row = "top" if item.y < THIRD else "bottom" if item.y >= 2 * THIRD else ""
    return " ".join(filter(None, (row, column))) or "center"


def at_place(item: Thing | Sign) -> str:
    where = place_of(item)
    return {"center": "in the center", "left": "on the left", "right": "on the right"}.get(where, f"at the {where}")


def truth(scene: Scene, kind: str, question: str) -> tuple[str, str]:
    """The short answer and the sentence that a question of this type deserves, from the scene alone."""
    return _TRUTHS[kind](scene, question)


def _noun(question: str, *forms: str) -> str:
    for form in forms:
        found = re.fullmatch(form, question)
        if found is not None:
            return found.group(1)
    raise AssertionError(f"unknown form of question: {question}")


def _color(scene: Scene, question: str) -> tuple[str, str]:
    noun = _noun(
        question,
        r"What color is the (.+)\?",
        r"What is the color of the (.+)\?",
        r"Which color does the (.+) have\?",
    )
    assert not set(noun.split()) & set(COLORS), "the question gives the answer away"
    return the(scene, noun).color, f"The {noun} is {the(scene, noun).color}."


def _shape(scene: Scene, question: str) -> tuple[str, str]:
    noun = _noun(
        question,
        r"What shape is the (.+)\?",
        r"What is the shape of the (.+)\?",
        r"Which shape does the (.+) have\?",
    )
    assert not set(noun.split()) & set(SHAPES), "the question gives the answer away"
    return the(scene, noun).shape, f"The {noun} is {with_article(the(scene, noun).shape)}."


def _count(scene: Scene, question: str) -> tuple[str, str]:
    many = _noun(question, r"How many (.+) (?:are there|do you see|are in the picture)\?")
    *color, last = many.split()
    one = " ".join([*color, SINGULARS[last]])
    count = len(meant(scene, one))
    return str(count), f"There is 1 {one}." if count == 1 else f"There are {count} {many}."


def _existence(scene: Scene, question: str) -> tuple[str, str]:
    noun = _noun(question, r"(?:Is there|Do you see) (an? \w+ \w+?)(?: in the picture)?\?")
    bare = noun.split(" ", 1)[1]
    assert noun == with_article(bare)
    if meant(scene, bare):
        return "yes", f"Yes, there is {noun}."
    return "no", f"No, there is no {bare}."


def _position(scene: Scene, question: str) -> tuple[str, str]:
    noun = _noun(
        question,
        r"Where is the (.+)\?",
        r"Where in the picture is the (.+)\?",
        r"In which part of the picture is the (.+)\?",
    )
    item = the(scene, noun)
    for coordinate in (item.x, item.y):
        assert min(abs(coordinate - THIRD), abs(coordinate - 2 * THIRD)) >= 5, "too near a border to be fair"
    return place_of(item), f"The {noun} is {at_place(item)}."


def _relation(scene: Scene, question: str) -> tuple[str, str]:
    found = re.fullmatch(r"Is the (.+) (left or right of|above or below) the (.+)\?", question)
    assert found is not None, question
    one, other = the(scene, found.group(1)), the(scene, found.group(3))
    assert one != other
    horizontal = found.group(2).startswith("left")
    gap = other.x - one.x if horizontal else other.y - one.y
    assert abs(gap) >= 14, "too near to be fair"
    answer = ("left" if gap > 0 else "right") if horizontal else ("above" if gap > 0 else "below")
    side = f"{answer} of" if horizontal else answer
    return answer, f"The {found.group(1)} is {side} the {found.group(3)}."


def _size(scene: Scene, question: str) -> tuple[str, str]:
    found = re.fullmatch(r"(?:Which is larger|What is bigger), the (.+) or the (.+)\?", question)
    if found is None:
        noun = _noun(question, r"Is the (.+) small or large\?")
        assert not set(noun.split()) & {"small", "large"}, "the question gives the answer away"
        return the(scene, noun).size, f"The {noun} is {the(scene, noun).size}."
    nouns = found.group(1), found.group(2)
    assert not {"small", "large"} & set(" ".join(nouns).split()), "the question gives the answer away"
    by_size = {the(scene, noun).size: noun for noun in nouns}
    assert set(by_size) == {"small", "large"}
    return by_size["large"], f"The {by_size['large']} is larger than the {by_size['small']}."


def _reading(scene: Scene, question: str) -> tuple[str, str]:
    assert scene.sign is not None
    kind = "number" if scene.sign.text[0] in "0123456789" else "word"
    assert question in (
        "What does the sign say?",
        f"Which {kind} is on the sign?",
        f"What {kind} is written in the picture?",
    )
    return scene.sign.text, f'The sign says "{scene.sign.text}".'


def _reasoning(scene: Scene, question: str) -> tuple[str, str]:
    found = re.fullmatch(r"Would the (.+) fit inside the (.+)\?", question)
    if found is None:
        noun = _noun(question, r"Could the (.+) roll\?", r"Would the (.+) roll down a slope\?")
        assert not set(noun.split()) & set(SHAPES), "the question gives the answer away"
        shape = the(scene, noun).shape
        kind = with_article(shape)
        if shape in ROUND:
            return "yes", f"Yes, the {noun} is {kind}, and {kind} is round."
        return "no", f"No, the {noun} is {kind}, and {kind} is not round."
    one, box = the(scene, found.group(1)), the(scene, found.group(2))
    assert {one.size, box.size} == {"small", "large"}
    assert not {"small", "large"} & set(question.rstrip("?").split()), "the question gives the answer away"
    answer = "yes" if one.size == "small" else "no"
    return answer, (
        f"{answer.capitalize()}, the {found.group(1)} is {one.size} and the {found.group(2)} is {box.size}."
    )


_TRUTHS = {
    "color": _color,
    "shape": _shape,
    "count": _count,
    "existence": _existence,
    "position": _position,
    "relation": _relation,
    "size": _size,
    "reading": _reading,
    "reasoning": _reasoning,
}


def items(scene: Scene) -> Iterator[Thing | Sign]:
    """Everything that is painted."""
    yield from scene.things
    if scene.sign is not None:
        yield scene.sign
