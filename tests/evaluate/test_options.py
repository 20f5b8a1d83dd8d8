"""Which option an answer means, by VLMEvalKit's rules and by lmms-eval's."""

from __future__ import annotations

import pytest

from sightline.evaluate.options import lmms_choice, ranked_letter, vlmevalkit_choice

OPTIONS = {"A": "a cat", "B": "a dog", "C": "red", "D": "blue sky"}
UNKNOWN = None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B. a dog", "B"),
        ("**B**", "B"),
        ("b", UNKNOWN),
        ("the option here is B", "B"),
        ("B is what I would say", UNKNOWN),  # more than four tokens from the end
        ("B would be my", "B"),  # the fourth from the end
        ("A or B", UNKNOWN),
        ("B B", "B"),  # one letter, twice
        ("Z", "Z"),
        ("it is Z", "Z"),
        ("Z or B", "B"),
        ("B one two three four Z", UNKNOWN),  # a letter, though too early, and so no refusal
        ("A dog stands there", "A"),  # the article counts: a tie-break is only active when verbose
        ("The correct answer is B because of the fur on it", "B"),
        ("answer is **C** and that is all I can say", "C"),
        ("the answer is apple and not much else at all", "A"),  # no boundary behind the letter
        ("red", "C"),
        ("It is RED", "C"),
        ("red or blue sky", UNKNOWN),
        ("it is red " + "x" * 60, UNKNOWN),  # longer than twice all options
        ("nothing", UNKNOWN),
        ("", UNKNOWN),
        ("Sorry, I can't help with images of people yet. B", "Z"),
        ("Cannot determine the answer", "Z"),
        ("Failed to obtain answer via API", UNKNOWN),
        ("E", UNKNOWN),
        ("B@", UNKNOWN),
    ],
)
def test_vlmevalkit(answer: str, expected: str | None) -> None:
    assert vlmevalkit_choice(answer, OPTIONS) == expected


def test_the_length_limit_is_twice_all_options() -> None:
    assert vlmevalkit_choice("red".ljust(40, "."), OPTIONS) == "C"  # 5 + 5 + 3 + 8 letters
    assert vlmevalkit_choice("red".ljust(42, "."), OPTIONS) == "C"
    assert vlmevalkit_choice("red".ljust(43, "."), OPTIONS) is None


def test_a_letter_that_is_no_option_is_not_seen() -> None:
    assert vlmevalkit_choice("D", {"A": "yes", "B": "no"}) is None
    assert lmms_choice("D", {"A": "yes", "B": "no"}) == "D"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("(B).", "B"),
        (":B)", "B"),
        ("E", "E"),
        ("A cat sits there", "A"),  # too long for the letter, so by the text
        ("A dog sits there", "B"),
        ("I think A", "A"),
        ("I think it is A", "A"),
        ("A. or B.", "A"),  # not one letter in any frame: the last resort, where the start tells most
        ("the correct answer is C!", "C"),
        ("", None),
        ("???", None),
    ],
)
def test_lmms(answer: str, expected: str | None) -> None:
    assert lmms_choice(answer, OPTIONS) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A then (B)", "A"),
        ("or (A) or B", "B"),
        ("first (A) and (B) too", "B"),
        ("see A: or B) there", "A"),
        ("my choice is C or D there", "D"),
        ("xCx", "C"),
        ("", None),
    ],
)
def test_the_last_resort_takes_the_most_telling_place(answer: str, expected: str | None) -> None:
    assert ranked_letter(answer, "ABCD") == expected
