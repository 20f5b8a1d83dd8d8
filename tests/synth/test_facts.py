from __future__ import annotations

import pytest

from sightline.synth.context import Box, Context
from sightline.synth.facts import Facts, at, be, enumeration, place, sentence, side
from tests.synth.samples import VOCABULARY, YARD


def box(left: float, top: float, right: float, bottom: float, category: str = "dog") -> Box:
    return Box(category=category, corners=(left, top, right, bottom))


def facts(*captions: str, boxes: tuple[Box, ...] = ()) -> Facts:
    return Facts(Context(id="1", image="1.jpg", captions=captions, boxes=boxes), sorted(VOCABULARY))


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        pytest.param((0.1, 0.1, 0.2, 0.2), "top left", id="a corner"),
        pytest.param((0.4, 0.4, 0.6, 0.6), "center", id="the middle"),
        pytest.param((0.8, 0.4, 0.95, 0.6), "right", id="a side"),
        pytest.param((0.25, 0.4, 0.45, 0.6), None, id="near the border of two ninths"),
        pytest.param((0.5, 0.5, 0.51, 0.51), None, id="tiny"),
        pytest.param((0.0, 0.1, 1.0, 0.9), None, id="all over the picture"),
    ],
)
def test_a_place_is_named_where_it_is_clear(corners: tuple[float, ...], expected: str | None) -> None:
    assert place(box(*corners)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param((0.1, 0.4, 0.2, 0.6), (0.5, 0.4, 0.6, 0.6), "left of", id="left"),
        pytest.param((0.5, 0.4, 0.6, 0.6), (0.1, 0.4, 0.2, 0.6), "right of", id="right"),
        pytest.param((0.4, 0.1, 0.6, 0.2), (0.4, 0.5, 0.6, 0.6), "above", id="above"),
        pytest.param((0.4, 0.5, 0.6, 0.6), (0.4, 0.1, 0.6, 0.2), "below", id="below"),
        pytest.param((0.1, 0.4, 0.48, 0.6), (0.5, 0.4, 0.6, 0.6), None, id="touching"),
        pytest.param((0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.6, 0.6), None, id="both ways"),
        pytest.param((0.1, 0.1, 0.6, 0.6), (0.2, 0.2, 0.5, 0.5), None, id="one on the other"),
    ],
)
def test_a_side_is_named_where_it_is_clear(
    one: tuple[float, ...], other: tuple[float, ...], expected: str | None
) -> None:
    assert side(box(*one), box(*other)) == expected


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (("A red car waits.",), [("car", "red")]),
        (("A red car waits.", "The red car of somebody."), [("car", "red")]),
        (("A red car waits.", "A blue car waits."), []),
        (("A red and white car waits.",), []),
        (("A dark red, white car waits.",), []),
        (("A grey car.",), [("car", "gray")]),
        (("A red sports car.",), []),
    ],
)
def test_a_color_counts_where_all_captions_agree(captions: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert facts(*captions, boxes=(box(0, 0, 1, 1, "car"),)).colors == expected


def test_of_several_things_no_color_is_known() -> None:
    assert not facts("A red car.", boxes=(box(0, 0, 1, 1, "car"), box(0, 0, 0.5, 1, "car"))).colors


def test_absent_is_what_neither_boxes_nor_captions_may_mean() -> None:
    found = Facts(YARD, sorted(VOCABULARY)).absent
    assert set(found) == VOCABULARY - {"dog", "person", "bench"}
    assert "cat" not in facts("A kitten.", boxes=YARD.boxes).absent


def test_counts_end_where_annotators_begin_to_group() -> None:
    many = facts(boxes=tuple(box(0.1 * place, 0, 0.1 * place + 0.05, 0.1) for place in range(9)))
    assert not many.counts
    assert not many.inventory()


def test_words() -> None:
    assert [at(where) for where in ("center", "left", "top right")] == [
        "in the center",
        "on the left",
        "at the top right",
    ]
    assert [be(1, "dog"), be(2, "dog"), be(1, "skis"), be(1, "sheep")] == ["is", "are", "are", "is"]
    assert enumeration(["a", "b", "c"]) == "a, b and c"
    assert [sentence(text) for text in ("a dog  sleeps .", "A DOG SLEEPS", "Why?")] == [
        "A dog sleeps.", "A dog sleeps.", "Why?",
    ]  # fmt: skip


def test_captions_that_say_the_same_are_told_once() -> None:
    told = facts("A dog sleeps on a lawn.", "A dog sleeps on the lawn.", "Behind it rises a red brick house.")
    assert told.telling_captions() == ["Behind it rises a red brick house.", "A dog sleeps on the lawn."]
