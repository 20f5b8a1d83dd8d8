"""Contradictions are found where they are certain, and nowhere else."""

from __future__ import annotations

import pytest

from sightline.synth.claims import contradicts_counts, contradicts_objects
from sightline.synth.context import Box, Context
from sightline.synth.grammar import Pair
from tests.synth.samples import VOCABULARY, YARD


def says(answer: str, question: str = "What is there?") -> Pair:
    return Pair(question, answer)


@pytest.mark.parametrize(
    "pair",
    [
        says("There is a cat on the bench."),
        says("You can see two small cars near the fence."),
        says("The scene is calm. There are several buses in the background."),
        says("The picture shows a couch in the yard."),
        says("The picture shows a sofa and a bench."),
        says("Yes, it is asleep.", "Is there a cat in the picture?"),
        says("yes", "Are there any cars?"),
        says("No, there is not.", "Is there a dog in the image?"),
        says("There is no dog in the picture."),
        says("Nothing moves. There are no people, only grass."),
    ],
)
def test_what_contradicts_boxes_and_captions(pair: Pair) -> None:
    assert contradicts_objects(pair, YARD, VOCABULARY)


@pytest.mark.parametrize(
    "pair",
    [
        says("There is a dog on the grass."),
        says("There is a woman behind the bench."),  # a person
        says("There is no cat in the picture."),
        says("There might be a cat around the corner."),
        says("It looks as if there is a cat on the roof."),
        says("Perhaps there is a car behind the house."),
        says("There is a cat in the painting above the door."),
        says("There is a dog bed next to the bench."),  # no bed is of the vocabulary, and it would not be a dog
        says("There is a car park behind the yard."),
        says("There is a bus stop at the corner."),
        says("There is a picture of a cat on the wall."),
        says("There is a toy car on the bench."),
        says("A cat would wake them."),
        says("There is a zebra."),  # nobody promises to box zebras
        says("There are no black dogs in the picture."),
        says("There are no dogs awake."),
        says("Yes, it is.", "Is the cat asleep?"),
        says("No, it is brown.", "Is the dog black?"),
        says("No.", "Is there a dog on the roof?"),
        says("No.", "Is there a black dog?"),
        says("No, there is not.", "Is there a cat in the picture?"),
        says("Instead of dogs, there is a cat person."),
    ],
)
def test_what_may_be_true_is_let_through(pair: Pair) -> None:
    assert not contradicts_objects(pair, YARD, VOCABULARY)


def test_what_a_caption_may_mean_is_let_through() -> None:
    context = Context(id="1", image="1.jpg", captions=("A kitten on a settee.",), boxes=YARD.boxes)
    assert not contradicts_objects(says("There is a cat in the picture."), context, VOCABULARY)


def test_a_thing_of_a_kindred_category_is_let_through() -> None:
    context = Context(id="1", image="1.jpg", captions=(), boxes=(Box(category="bus", corners=(0, 0, 1, 1)),))
    assert not contradicts_objects(says("There is a bus."), context, VOCABULARY | {"truck"})
    truck = Context(id="1", image="1.jpg", captions=(), boxes=(Box(category="bench", corners=(0, 0, 1, 1)),))
    assert contradicts_objects(says("There is a bus."), truck, VOCABULARY)


@pytest.mark.parametrize(
    "pair",
    [
        says("3", "How many dogs are there?"),
        says("Three dogs.", "How many dogs are in the picture?"),
        says("There are three dogs.", "How many dogs can be seen?"),
        says("There are five dogs in the picture."),
        says("There are two people in the picture."),
        says("2", "How many benches are there in the image?"),
    ],
)
def test_wrong_counts(pair: Pair) -> None:
    assert contradicts_counts(pair, YARD, VOCABULARY)


@pytest.mark.parametrize(
    "pair",
    [
        says("2", "How many dogs are there?"),
        says("There are two dogs.", "How many dogs are there?"),
        says("There are two dogs in the picture."),
        says("1", "How many people are there?"),
        says("Three bones.", "How many bones are there?"),
        says("One of the two dogs is asleep.", "How many dogs are asleep?"),
        says("There are three dogs on the street outside, perhaps."),
        says("Many.", "How many dogs are there?"),
        says("There are three brown dogs."),
        says("It takes three people to carry that bench."),
    ],
)
def test_counts_that_may_be_right(pair: Pair) -> None:
    assert not contradicts_counts(pair, YARD, VOCABULARY)


def test_a_number_of_a_caption_is_as_good_as_that_of_the_boxes() -> None:
    captions = ("Four dogs and a cat.", "Two women and a man sit on a bench.")
    context = Context(id="1", image="1.jpg", captions=captions, boxes=YARD.boxes)
    for count in (2, 4):
        assert not contradicts_counts(says(str(count), "How many dogs are there?"), context, VOCABULARY)
    assert contradicts_counts(says("3", "How many dogs are there?"), context, VOCABULARY)
    assert not contradicts_counts(says("3", "How many people are there?"), context, VOCABULARY)
    assert contradicts_counts(says("4", "How many people are there?"), context, VOCABULARY)


def test_a_crowd_leaves_the_count_open() -> None:
    crowd = Box(category="dog", corners=(0, 0, 1, 1), crowd=True)
    context = Context(id="1", image="1.jpg", captions=(), boxes=(*YARD.boxes, crowd))
    assert not contradicts_counts(says("30", "How many dogs are there?"), context, VOCABULARY)


def test_nothing_is_contradicted_where_nobody_promises_boxes() -> None:
    for pair in (says("There is a cat on the bench."), says("3", "How many dogs are there?")):
        assert not contradicts_objects(pair, YARD, frozenset())
        assert not contradicts_counts(pair, YARD, frozenset())
