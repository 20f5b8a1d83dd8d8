"""Ids are unique within a file; repeated ones are refused or numbered."""

from __future__ import annotations

import pytest

from sightline.data.ids import Ids, numbered
from sightline.data.reading import SampleError


def claimed(*wanted: str) -> list[str]:
    ids = Ids(number_repeated=True)
    return [numbered(each, ids.claim(each, place="f:1")) for each in wanted]


def test_repeated_ids_are_numbered_past_those_that_are_taken() -> None:
    assert claimed("a", "a", "b", "a") == ["a", "a#2", "b", "a#3"]
    assert claimed("a", "a#2", "a", "a", "a#3", "a#2") == ["a", "a#2", "a#3", "a#4", "a#3#2", "a#2#2"]


def test_a_repeated_id_is_refused_with_the_place_of_the_first() -> None:
    ids = Ids(number_repeated=False)
    ids.claim("a", place="f:1")
    ids.claim("b", place="f:2")
    with pytest.raises(SampleError, match="'b', as in f:2") as caught:
        ids.claim("b", place="f:3")
    assert caught.value.reason == "id_duplicate"


def test_an_id_that_a_hundred_thousand_samples_share_costs_no_square() -> None:
    assert claimed(*["x"] * 100_000)[-1] == "x#100000"
