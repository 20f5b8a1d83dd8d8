"""What free answers say."""

from __future__ import annotations

import pytest

from sightline.evaluate.probes.matching import option_of, refuses, says


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("Left.", ("left", "right"), "left"),
        ("It is to the RIGHT of it", ("left", "right"), "right"),
        ("left or right", ("left", "right"), None),
        ("not left but right", ("left", "right"), "right"),
        ("Three", ("2", "3"), "3"),
        ("There are 3 circles", ("2", "3"), "3"),
        ("13", ("1", "3"), None),
        ("upper left", ("upper left", "lower left"), "upper left"),
        ("", ("yes", "no"), None),
        ("No", ("yes", "no"), "no"),
        ("predominantly reddish", ("red", "blue"), None),
    ],
)
def test_option_of(text: str, options: tuple[str, ...], found: str | None) -> None:
    assert option_of(text, options) == found


def test_says_whole_words() -> None:
    assert says("The word is: TIGER!", "tiger")
    assert not says("tigers", "tiger")
    assert not says("anything", "")


@pytest.mark.parametrize(
    ("text", "declines"),
    [("I'm sorry, but no.", True), ("I can\u2019t help with that.", True), ("Sure, here is how", False), ("", False)],
)
def test_refuses(text: str, declines: bool) -> None:
    assert refuses(text) == declines
