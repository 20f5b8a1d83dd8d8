from __future__ import annotations

import random

import pytest

from sightline.synth.grammar import Pair
from sightline.synth.likeness import Likeness, jaccard, runs_of
from sightline.synth.vocabulary import words

WORDS = words("The red dog and a cat run near an old wooden bench in the sun while people watch from a window above")


def dialogue(seed: int, *, changed: int = 0, length: int = 120) -> list[Pair]:
    """A dialogue of random words, the first `changed` of which are others."""
    chance = random.Random(seed)
    said = [chance.choice(WORDS) for _ in range(length)]
    said[:changed] = ["zebra"] * changed
    return [Pair("What is there?", " ".join(said))]


def test_a_dialogue_that_was_about_another_picture_is_not_new() -> None:
    likeness = Likeness()
    assert likeness.is_new(dialogue(1))
    assert likeness.is_new(dialogue(2))
    assert not likeness.is_new(dialogue(1))
    assert not likeness.is_new(dialogue(1, changed=2))
    assert likeness.is_new(dialogue(1, changed=80))


def test_what_is_short_may_be_said_of_many_pictures() -> None:
    likeness = Likeness()
    assert [likeness.is_new([Pair("How many dogs are there?", "2")]) for _ in range(3)] == [True] * 3


def test_a_pair_is_asked_once_of_a_picture() -> None:
    likeness = Likeness()
    first = [Pair("How many dogs are there?", "There are two dogs."), Pair("Where is the cat?", "On the left.")]
    assert likeness.new_pairs("1", first) == first
    again = [Pair("how many dogs are there", "There are two dogs!"), Pair("Is there a bird?", "No, there is no bird.")]
    assert likeness.new_pairs("1", again) == again[1:]
    assert likeness.new_pairs("2", again) == again
    assert likeness.new_pairs("1", [again[0]._replace(answer="2")])


def test_a_pair_is_not_like_one_about_another_thing() -> None:
    likeness = Likeness()
    pairs = [Pair(f"Is there a {thing} here?", f"No, there is no {thing}.") for thing in ("dog", "cat", "bird")]
    assert likeness.new_pairs("1", pairs) == pairs


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a b c d", "a b c d", 1.0),
        ("a b c d", "a b c e", 1 / 3),
        ("a b", "a b", 1.0),
        ("a b", "a c", 0.0),
        ("", "", 1.0),
    ],
)
def test_runs_of_three_words_are_compared(one: str, other: str, expected: float) -> None:
    assert jaccard(runs_of(one), runs_of(other)) == pytest.approx(expected)
