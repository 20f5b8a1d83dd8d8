"""Words for things: plurals, numbers, colors, and which words name a thing of a category.

Comes in: words of categories, captions and replies. Goes out: the same in a form that can be compared. Knows English,
COCO's eighty categories (Lin et al. 2014, appendix II) and no picture. The words stand in `words.yaml`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_KNOWN: dict[str, Any] = yaml.safe_load((files("sightline.synth") / "words.yaml").read_text(encoding="utf-8"))
_OTHER_NAMES: dict[str, str] = _KNOWN["other_names"]
_EXACT_NAMES: dict[str, list[str]] = _KNOWN["exact_names"]
HEDGES, AFTER_NAME, BEFORE_NAME = (frozenset(_KNOWN[kind].split()) for kind in ("hedges", "after_name", "before_name"))

COCO_CATEGORIES = frozenset(_OTHER_NAMES)

_IRREGULAR: dict[str, str] = _KNOWN["irregular"]
_UNCHANGING = frozenset(_KNOWN["unchanging"].split())
_AS_THEY_ARE = _UNCHANGING | frozenset(_KNOWN["singulars"].split())
_PLURAL = {singular: plural for plural, singular in _IRREGULAR.items()} | {word: word for word in _UNCHANGING}

NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "grey",
)  # fmt: skip

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")


def words(text: str) -> list[str]:
    """Words and whole numbers in lower case, without punctuation: `Two men's hats.` -> two, men, hats."""
    return [
        word.removesuffix("'s") for word in _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    ]


@cache
def singular(word: str) -> str:
    """A noun in the singular, by rule. A word that is no noun may come out maimed, but always the same."""
    if word in _AS_THEY_ARE or word in _IRREGULAR:
        return _IRREGULAR.get(word, word)
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2:
        return word[:-1]
    return word


def plural(noun: str) -> str:
    """The plural of a noun, or of the last word of several: `wine glass` -> `wine glasses`."""
    head, _, last = noun.rpartition(" ")
    if last in _PLURAL:
        formed = _PLURAL[last]
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        formed = last[:-1] + "ies"
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        formed = last + "es"
    else:
        formed = last + "s"
    return f"{head} {formed}" if head else formed


def number(word: str) -> int | None:
    """`two`, `2` -> 2; None for other words."""
    if word.isdigit():
        return int(word) if len(word) < 5 else None
    return NUMBERS.index(word) if word in NUMBERS else None


def spoken(count: int) -> str:
    """`three` up to twelve, digits beyond."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def is_pair(noun: str) -> bool:
    """Whether one thing goes by a plural: `skis`, `scissors`."""
    return plural(noun) == noun and noun.endswith("s")


def article(noun: str) -> str:
    """`a dog`, `an apple`, and `skis`, of which there is never one."""
    if is_pair(noun):
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def key(phrase: str) -> tuple[str, ...]:
    """A name as it is compared: its words in lower case, each in the singular."""
    return tuple(singular(word) for word in words(phrase))


@cache
def exact_names(category: str) -> tuple[tuple[str, ...], ...]:
    """Names that mean this category and no other."""
    return tuple(key(name) for name in (category, *_EXACT_NAMES.get(category, ())))


@cache
def wide_names(category: str) -> frozenset[str]:
    """Single words one of which in a text makes it possible that a thing of this category is meant."""
    return frozenset({*key(category)[-1:], *(singular(word) for word in _OTHER_NAMES.get(category, "").split())})


def mentions(text: str, category: str) -> bool:
    """Whether a text may speak of a thing of this category. Says yes when in doubt."""
    return not wide_names(category).isdisjoint(key(text))
