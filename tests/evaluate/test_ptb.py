"""Captions into words: the expected words are what the original program made of these sentences."""

from __future__ import annotations

import pytest

from sightline.evaluate.ptb import tokenise


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man.", "a man"),
        ("", ""),
        ("A (red) sign", "a -lrb- red -rrb- sign"),
        ("[a] {b}", "-lsb- a -rsb- -lcb- b -rcb-"),
        ('it says "STOP", isn\'t it?', "it says stop is n't it"),
        ("the man's dog's tail", "the man 's dog 's tail"),
        ("can't won't cannot", "ca n't wo n't can not"),
        ("gonna wanna gotta", "gon na wan na got ta"),
        ("'tis “curly” don’t", "'t is curly do n't"),
        ("I'd've she'll we're", "i 'd 've she 'll we 're"),
        ("a mid-air close-up", "a mid-air close-up"),
        ("word--word - word", "word word word"),
        ("yes...no…", "yes no"),
        ("Hello!! What?!", "hello !! what ?!"),
        ("$3.50 or 50% of 1,000", "$ 3.50 or 50 % of 1,000"),
        ("£5 €10 5¢", "# 5 $ 10 5 cents"),
        ("at 12:45 on 5/12", "at 12:45 on 5/12"),
        ("22 3/4 St. and Ave/CTH", "22\xa03/4 st. and ave/cth"),
        ("a/b/c/d", "a/b/c / d"),
        ("½ cup, 2½", "1/2 cup 2 1/2"),
        ("Mr. Smith, Dr. Jones", "mr. smith dr. jones"),
        ("says no. to No. 5", "says no to no. 5"),
        ("U.S.A. p.m. J.K. Rowling", "u.s.a. p.m. j.k. rowling"),
        ("man.A woman", "man.a woman"),
        ("12.5% vol., 5 l", "12.5 % vol. 5 l"),
        ("rock 'n' roll in the '80s", "rock 'n' roll in the '80s"),
        ("O'Brien's ma'am y'all", "o'brien 's ma'am y' all"),
        ("AT&T and rock&roll", "at&t and rock & roll"),
        ("C++ #tag #5 @home", "c++ #tag # 5 @home"),
        (":) scene:person", ":-rrb- scene person"),
        ("snake_case <b>x</b>", "snake_case <b> x </b>"),
        ("see www.example.com/a now", "see www.example.com / a now"),
        ("5'10\" and 6ft.", "5 10 and 6ft"),
        ("&quot;a&quot; &amp; b", "a & b"),
    ],
)
def test_words(caption: str, expected: str) -> None:
    assert tokenise([caption]) == [expected]


def test_a_letter_with_a_period_depends_on_the_caption_behind_it() -> None:
    assert tokenise(["plan D.", "a man"]) == ["plan d.", "a man"]
    assert tokenise(["plan D.", "A man"]) == ["plan d", "a man"]
    assert tokenise(["plan D. The man", "plan D. Theo"]) == ["plan d the man", "plan d. theo"]


def test_lines_within_a_caption_are_blanks() -> None:
    assert tokenise(["a\nman\r\n walks", "x"]) == ["a man walks", "x"]
