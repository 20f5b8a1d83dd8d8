from __future__ import annotations

import pytest

from sightline.synth.vocabulary import (
    COCO_CATEGORIES,
    article,
    exact_names,
    key,
    mentions,
    number,
    plural,
    singular,
    spoken,
    words,
)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", "dogs"), ("bus", "buses"), ("wine glass", "wine glasses"), ("person", "people"), ("knife", "knives"),
        ("sheep", "sheep"), ("bench", "benches"), ("toothbrush", "toothbrushes"), ("baby", "babies"), ("toy", "toys"),
        ("box", "boxes"), ("cross", "crosses"), ("potted plant", "potted plants"), ("skis", "skis"), ("mouse", "mice"),
    ],
)  # fmt: skip
def test_plural_and_back(one: str, many: str) -> None:
    assert plural(one) == many
    assert singular(many.split()[-1]) == one.split()[-1]


def test_every_category_of_coco_has_a_plural_that_leads_back() -> None:
    assert len(COCO_CATEGORIES) == 80
    for category in COCO_CATEGORIES:
        assert key(plural(category)) == key(category), category


def test_words_are_in_lower_case_without_punctuation() -> None:
    assert words("Two men’s hats, 3 of them; can't say.") == ["two", "men", "hats", "3", "of", "them", "can't", "say"]


def test_numbers() -> None:
    assert [number(word) for word in ("two", "12", "twelve", "no", "many", "12345")] == [2, 12, 12, 0, None, None]
    assert [spoken(count) for count in (1, 12, 13)] == ["one", "twelve", "13"]


def test_articles() -> None:
    assert [article(noun) for noun in ("dog", "apple", "skis", "sheep")] == ["a dog", "an apple", "skis", "a sheep"]


@pytest.mark.parametrize(
    ("text", "category", "expected"),
    [
        ("A puppy sleeps.", "dog", True),
        ("Two women talk.", "person", True),
        ("A sofa in a room.", "couch", True),
        ("Wine bottles on a shelf.", "bottle", True),
        ("A cat sleeps.", "dog", False),
        ("Dogmatic people.", "dog", False),
    ],
)
def test_a_text_mentions_a_category_by_any_of_its_names(text: str, category: str, expected: bool) -> None:
    assert mentions(text, category) is expected


def test_a_name_that_others_share_is_not_exact() -> None:
    assert ("sofa",) in exact_names("couch")
    assert ("puppy",) not in exact_names("dog")
