"""N1 and N2: what each makes of a text, oddities included."""

from __future__ import annotations

import pytest

from sightline.evaluate.normalise import CONTRACTIONS, MARKS, n1, n1_lmms, n2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "yes"),
        ("  two\tcats\n", "2 cats"),
        ("none zero one ten eleven", "0 0 1 10 eleven"),
        ("a cat an owl the dog", "cat owl dog"),
        ("t-shirt", "t shirt"),  # beside no blank: a blank
        ("t- shirt", "t shirt"),  # beside one: gone
        ("t-shirt and e- mail", "tshirt and e mail"),  # beside one anywhere: gone everywhere
        ("1,000", "1000"),
        ("red,blue", "red blue"),
        ("red, blue", "red blue"),
        ("1,000 t-shirts", "1000 tshirts"),  # digit, comma, digit: all marks go
        ("1,000/day", "1000day"),
        ("12:30", "12:30"),
        ("$5 50% #1 a&b *", "$5 50% #1 a&b *"),
        ("man's hat", "man's hat"),
        ("“quoted”", "“quoted”"),
        ("U.S.A.", "usa"),
        ("3.5", "3.5"),
        ("v.5", "v.5"),  # only what follows a period matters
        ("5.", "5"),
        ("5.a", "5a"),
        ("dont", "don't"),
        ("Im", "im"),  # the key is `Im`, which nothing in lower case can match
        ("Ive", "ive"),
        ("somebody'd", "somebodyd"),
        ("let's she's", "let's she's"),
        ("ow's'at", "'ow's'at"),
        ("couldnt've couldn'tve", "couldn't've couldn't've"),
        ("The", ""),
        ("", ""),
        ("what?", "what"),
        ("(red)", "red"),
        ("Σ", "σ"),
        ("ΟΔΟΣ", "οδοσ"),  # no final sigma: Python 2 lower-cases letter by letter
        ("İ", "i"),
        ("\u0661,\u0662 x-y", "\u0661 \u0662 x y"),  # in Python 2 a digit is 0 to 9
    ],
)
def test_n1(text: str, expected: str) -> None:
    assert n1(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dell's", "dell 's"),
        ("it's", "it 's"),
        ("let's", "let 's"),
        ("1,000", "1000"),
        ("1,000 t-shirts", "1000 t shirts"),  # the comma has gone before N1 looks for one
        ("red,blue", "redblue"),
        ("what?", "what"),
        ("dont", "don't"),
        ("Two", "2"),
        ("ΟΔΟΣ", "οδος"),
        ("The man's hat.", "man 's hat"),
        ("a\nb", "b"),
        ("3\u0661. x-y", "3\u0661 x y"),
    ],
)
def test_n2(text: str, expected: str) -> None:
    assert n2(text) == expected


def test_n2_is_not_n1() -> None:
    assert n1("man's hat") == "man's hat"
    assert n1(n2("man's hat")) == "man 's hat"  # what the server makes of LLaVA's upload


def test_at_most_32_periods_go() -> None:
    assert n1("." * 40) == "." * 8
    assert n2("." * 40) == "." * 8


def test_lmms_takes_commas_in_a_row_for_one_between_digits() -> None:
    assert n1("1,,000-x") == "1 000 x"
    assert n1_lmms("1,,000-x") == "1000x"


@pytest.mark.parametrize("mark", MARKS)
def test_each_mark_becomes_a_blank_or_nothing(mark: str) -> None:
    assert n1(f"x{mark}y") == "x y"
    assert n1(f"x {mark}y") == "x y"
    assert n1(f"x{mark}y {mark}") == "xy"


def test_the_table_has_the_evaluators_entries() -> None:
    assert len(MARKS) == 21
    assert len(CONTRACTIONS) == 120
    assert CONTRACTIONS["yall'd've"] == CONTRACTIONS["y'all'dve"] == "y'all'd've"
