"""How the evaluators of short answers make two spellings one: N1 and N2. They are not the same; see each.

Comes in: a text. Goes out: a text to compare literally. Both keep their originals' oddities, since a score depends on
them: which marks go is decided on the whole text, the look-behind of the period's pattern is miswritten, and `re.sub`
is given a flag as its count.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

MARKS = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
"""The 21 marks of the VQA evaluator. Colon, apostrophe, $, %, #, & and * are none."""
MOST_PERIODS = int(re.UNICODE)
"""`pattern.sub("", text, re.UNICODE)` of the originals: the flag is the third argument, which is the count."""
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(value) for value, word in enumerate(_DIGITS)}
ARTICLES = frozenset(("a", "an", "the"))

_COMMA_ASCII = re.compile(r"[0-9],[0-9]")
_PERIOD_ASCII = re.compile(r"\.(?![0-9])")
_COMMA = re.compile(r"\d,\d")
_COMMAS = re.compile(r"\d,+\d")
_PERIOD = re.compile(r"\.(?!\d)")

_WITHOUT_APOSTROPHE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's
    I'm I've isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't
    should've shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's
    there'd there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've
    wouldn't y'all you'd you'll you're you've
"""
_TWO_APOSTROPHES = """
    couldn't've hadn't've he'd've I'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've y'all'll
"""


def _contractions() -> dict[str, str]:
    """The table of the VQA evaluator: spellings with an apostrophe missing, and what they become.

    Keys in upper case (`Im`) stand in it though nothing that was lower-cased can match them; `somebody'd` loses its
    apostrophe; `let's` and `she's` become themselves.
    """
    table = {word.replace("'", ""): word for word in _WITHOUT_APOSTROPHE.split()}
    for word in _TWO_APOSTROPHES.split():
        first, second, third = word.split("'")
        table[f"{first}{second}'{third}"] = word
        table[f"{first}'{second}{third}"] = word
    table |= {"somebody'd": "somebodyd", "let's": "let's", "she's": "she's"}
    table |= {"ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at"}
    return table | {"yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've"}


CONTRACTIONS = _contractions()


@lru_cache(maxsize=2**17)
def n1(text: str) -> str:
    """The VQA evaluator's normalisation (GT-Vision-Lab/VQA, vqaEval.py), as Python 2 runs it.

    Digits are 0 to 9 alone, and each letter is lower-cased by itself: both differ from Python 3 on a few letters.
    """
    return _words(_marks(stripped(text), _COMMA_ASCII, _PERIOD_ASCII), lower_singly)


@lru_cache(maxsize=2**17)
def n2(text: str) -> str:
    """The normalisation of M4C (EvalAIAnswerProcessor): used by LLaVA for TextVQA and for its uploads.

    Before N1's steps it lower-cases, deletes every comma and question mark, and puts a blank before every `'s`.
    """
    split = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _words(_marks(stripped(split), _COMMA, _PERIOD), str.lower)


@lru_cache(maxsize=2**17)
def n1_lmms(text: str) -> str:
    """N1's steps as lmms-eval takes them: Python 3, and several commas between two digits count like one."""
    return _words(_marks(text, _COMMAS, _PERIOD), str.lower)


@lru_cache(maxsize=2**17)
def stripped(text: str) -> str:
    """Newlines and tabs become blanks, and those at the ends go."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def lower_singly(text: str) -> str:
    """Lower case letter by letter, as Python 2 does: no final sigma, and the dotted capital I is one letter."""
    if text.isascii():
        return text.lower()
    return "".join("i" if letter == "\u0130" else letter.lower() for letter in text)


def _marks(text: str, comma: re.Pattern[str], period: re.Pattern[str]) -> str:
    """Deletes a mark that stands next to a blank anywhere, and every mark if a comma stands between digits; others
    become blanks. Periods that no digit follows go, the first 32 of them; what precedes them does not matter."""
    result = text
    delete_all = comma.search(text) is not None
    for mark in MARKS:
        if mark in text:
            beside_blank = mark + " " in text or " " + mark in text
            result = result.replace(mark, "" if delete_all or beside_blank else " ")
    return period.sub("", result, count=MOST_PERIODS)


def _words(text: str, lower: Callable[[str], str]) -> str:
    words = (NUMBERS.get(word, word) for word in lower(text).split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
