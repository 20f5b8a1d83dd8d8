"""The teacher: every answer holds against a second opinion, and every reference names one thing."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from sightline.demo.describe import name
from sightline.demo.teacher import (
    ASKERS,
    DETAIL_QUESTIONS,
    REASONING_QUESTIONS,
    Exchange,
    description,
    exchanges,
    reasoning,
    references,
)
from sightline.demo.world import UNSEEN_PAIRS, Scene, Sign, draw_scene
from tests.demo.scenes import COLORS, ROUND, SHAPES, at_place, meant, scene_of, scenes, thing, truth, with_article

NOUN = rf"the ((?:(?:small|large|{'|'.join(COLORS)}) )*(?:object|{'|'.join(SHAPES)}))"


def asked(kind: str, *, count: int = 150, tries: int = 4) -> list[tuple[Scene, Exchange]]:
    """What the asker of one type says about many scenes."""
    found = []
    for scene, seed in itertools.product(scenes(count), range(tries)):
        exchange = ASKERS[kind](scene, random.Random(f"{seed}/{scene.index}"))
        if exchange is not None:
            found.append((scene, exchange))
    return found


@pytest.mark.parametrize("kind", ASKERS)
def test_answers_and_sentences_hold_against_a_second_opinion(kind: str) -> None:
    found = asked(kind)
    assert len(found) > 100
    for scene, exchange in found:
        assert exchange.type == kind
        assert (exchange.short, exchange.sentence) == truth(scene, kind, exchange.question)


@pytest.mark.parametrize("kind", ASKERS)
def test_wording_and_answers_vary(kind: str) -> None:
    found = [exchange for _, exchange in asked(kind)]
    openings = {" ".join(exchange.question.split()[:2]) for exchange in found}
    assert len(openings) >= 2 or kind in ("relation", "count")
    answers = Counter(exchange.short for exchange in found)
    assert len(answers) >= 2
    assert max(answers.values()) < 0.75 * answers.total(), "a model that never looks must not be right"


@pytest.mark.parametrize("hide", ["", "color", "shape", "size"])
def test_references_are_exactly_the_names_that_fit_one_thing(hide: str) -> None:
    forms = ("shape", "color", "color shape", "size shape", "size color", "size color shape")
    for scene in scenes():
        for item in scene.things:
            expected = []
            for form in forms:
                if hide and hide in form.split():
                    continue
                words = [getattr(item, part) for part in form.split()]
                noun = " ".join(words if "shape" in form else [*words, "object"])
                if len(meant(scene, noun)) == 1:
                    expected.append(noun)
            assert references(scene, item, hide=hide) == expected


def test_a_thing_that_cannot_be_told_from_another_has_no_reference() -> None:
    twins = scene_of(thing("red", "star", x=20), thing("red", "star", x=70))
    assert references(twins, twins.things[0]) == []
    for kind in ("color", "shape", "position", "relation", "size"):
        assert ASKERS[kind](twins, random.Random(0)) is None


def test_existence_is_half_yes_and_a_no_shares_a_color_or_a_shape_with_something_there() -> None:
    found = asked("existence")
    answers = Counter(exchange.short for _, exchange in found)
    assert set(answers) == {"yes", "no"}
    assert 0.4 < answers["yes"] / answers.total() < 0.6
    for scene, exchange in found:
        ((color, shape),) = exchange.about
        if exchange.short == "no":
            assert (color, shape) not in UNSEEN_PAIRS, "it would teach that there are none"
            assert any(color == item.color or shape == item.shape for item in scene.things)


def test_an_exchange_says_which_pairs_it_turns_on() -> None:
    for kind in ASKERS:
        for scene, exchange in asked(kind, count=60):
            there = {item.pair for item in scene.things}
            if kind == "count":
                many = exchange.question.removeprefix("How many ")
                assert len(exchange.about) == int(exchange.short), many
            elif kind == "reading":
                assert exchange.about == ()
            else:
                nouns = re.findall(NOUN, exchange.question)
                named = [item.pair for noun in nouns for item in meant(scene, noun)]
                assert sorted(exchange.about) == sorted(named) or kind == "existence"
            assert set(exchange.about) <= there or (kind, exchange.short) == ("existence", "no")


def test_an_exchange_says_which_things_to_look_at() -> None:
    for kind in ASKERS:
        for scene, exchange in asked(kind, count=60):
            if kind == "reading" or (kind, exchange.short) == ("existence", "no"):
                assert exchange.things == ()
                continue
            assert all(item in scene.things for item in exchange.things)
            assert {item.pair for item in exchange.things} == set(exchange.about)
            if kind == "count":
                assert len(exchange.things) == int(exchange.short)
            elif kind == "existence":
                assert len(exchange.things) == sum(item.pair in exchange.about for item in scene.things)
            else:
                nouns = re.findall(NOUN, exchange.question)
                assert sorted(map(id, exchange.things)) == sorted(id(meant(scene, noun)[0]) for noun in nouns)


def test_exchanges_are_many_different_questions_of_all_types() -> None:
    types: Counter[str] = Counter()
    for scene in scenes():
        found = exchanges(scene, random.Random(scene.index), count=8)
        assert len({exchange.question for exchange in found}) == len(found) <= 8
        assert len(found) == 8 or len(scene.things) <= 2
        types.update(exchange.type for exchange in found)
    assert set(types) == set(ASKERS)
    assert len(types) >= 8
    assert exchanges(scenes()[0], random.Random(1), count=5) == exchanges(scenes()[0], random.Random(1), count=5)


def test_nobody_reads_a_sign_that_is_not_there() -> None:
    without = scene_of(thing("red", "star"))
    assert all(exchange.type != "reading" for exchange in exchanges(without, random.Random(0), count=20))
    signed = scene_of(thing("red", "star"), sign=Sign(text="cat", x=30, y=80))
    assert any(exchange.type == "reading" for exchange in exchanges(signed, random.Random(0), count=20))


# ---- longer answers --------------------------------------------------------------------------------------------------


def test_the_description_names_everything_with_its_place() -> None:
    for scene in scenes():
        text = description(scene)
        count = len(scene.things)
        opening = f"The picture shows {count} object{'s' if count > 1 else ''}: "
        assert text.startswith(opening)
        body, _, sign = text.removeprefix(opening).partition(". ")
        phrases = [part for chunk in body.rstrip(".").split(", ") for part in chunk.split(" and ")]
        expected = [
            f"{with_article(f'{item.size} {item.color} {item.shape}')} {at_place(item)}" for item in scene.things
        ]
        assert Counter(phrases) == Counter(expected)
        assert sign == (f'A sign {at_place(scene.sign)} says "{scene.sign.text}".' if scene.sign else "")


def test_the_reasoning_sorts_all_things_into_what_rolls_and_what_stays() -> None:
    for scene in scenes():
        text = reasoning(scene)
        rolls, stays = _rolling_and_staying(text)
        assert Counter(rolls) == Counter(name(item) for item in scene.things if item.shape in ROUND)
        assert Counter(stays) == Counter(name(item) for item in scene.things if item.shape not in ROUND)
        assert text[0].isupper()
        assert text.endswith(".")


def _rolling_and_staying(text: str) -> tuple[list[str], list[str]]:
    def named(part: str) -> list[str]:
        return re.findall(rf"the ((?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)}))", part.lower())

    if text.startswith("Nothing would roll, because nothing is round: "):
        assert text.endswith(" would stay.")
        return [], named(text)
    first, *rest = text.split(". ")
    assert first.startswith("Round objects roll, so ")
    assert first.rstrip(".").endswith(" would roll away")
    assert not rest or rest[0].endswith(" would stay.")
    return named(first), named(" ".join(rest))


def test_a_single_thing_is_described_in_the_singular() -> None:
    alone = scene_of(thing("orange", "ring", "small", x=10, y=10))
    assert description(alone) == "The picture shows 1 object: a small orange ring at the top left."
    assert reasoning(alone) == "Round objects roll, so the orange ring would roll away."
    assert reasoning(scene_of(thing("red", "star"))) == (
        "Nothing would roll, because nothing is round: the red star would stay."
    )


def test_requests_for_longer_answers_vary() -> None:
    assert len(set(DETAIL_QUESTIONS)) >= 3
    assert len(set(REASONING_QUESTIONS)) >= 2


def test_the_second_opinion_is_not_blind() -> None:
    """A teacher who is wrong is caught: the oracle disagrees when the scene is another one."""
    caught = 0
    for number, (scene, exchange) in enumerate(asked("count") + asked("position")):
        other = draw_scene(number, seed=123)
        try:
            caught += truth(other, exchange.type, exchange.question) != (exchange.short, exchange.sentence)
        except AssertionError:
            caught += 1
        assert truth(scene, exchange.type, exchange.question)[0] == exchange.short
    assert caught > 100
