"""What a reply says is there, held against captions and boxes.

Comes in: a question with its answer, a context, the categories that are boxed wherever they occur. Goes out: whether
they contradict each other for certain. Understands a handful of plain sentences and is silent about all others: a
clause with a negation, a guess or a comparison claims nothing, nor does a thing that a caption may have meant.
"""

from __future__ import annotations

import re

from sightline.synth.context import Context
from sightline.synth.grammar import Pair
from sightline.synth.vocabulary import (
    AFTER_NAME,
    BEFORE_NAME,
    COLORS,
    HEDGES,
    NUMBERS,
    exact_names,
    key,
    mentions,
    number,
    singular,
    wide_names,
    words,
)

_ADJECTIVES = frozenset(
    {*COLORS, "small", "large", "big", "little", "single", "young", "old", "tall", "long", "few", "more", "other"}
)
_OPENERS = re.compile(r"\b(?:there (?:is|are)|there's|you can see|i can see|i see|shows|contains|includes|features)\b")
_CLAUSE = re.compile(r"[.;:!?\n]+|, (?:but|while|whereas|though|although) ")
_IS_THERE = re.compile(
    r"^(?:is|are) there (?:a|an|any|some|one) ([a-z ]+?)(?: (?:visible|present|to be seen))?"
    r"(?: (?:in|on) (?:the|this) (?:picture|image|photo|photograph|scene))?\s*\?*$"
)
_HOW_MANY = re.compile(
    r"^how many ([a-z ]+?) (?:are there|are (?:visible|shown|present)|can be seen|do you see|can you see|are)"
    r"(?: (?:in|on) (?:the|this) (?:picture|image|photo|photograph|scene))?\s*\?*$"
)
_THERE_ARE = re.compile(
    r"^there (?:is|are) (?:only |exactly )?(\w+) ([a-z ]+?)(?: (?:visible|present))?"
    r"(?: (?:in|on) (?:the|this) (?:picture|image|photo|photograph|scene))?$"
)


def contradicts_objects(pair: Pair, context: Context, vocabulary: frozenset[str]) -> bool:
    """Says that a thing is there which neither boxes nor captions have, or denies one that is boxed."""
    boxed = {box.category for box in context.boxes}
    written = "\n".join(context.captions)
    asked = _IS_THERE.match(_plain(pair.question))
    verdict = next(iter(words(pair.answer)), "")
    if asked is not None and verdict in ("yes", "no"):
        category = _category(asked[1], vocabulary)
        if category is not None and verdict == "no" and category in boxed:
            return True
        if category is not None and verdict == "yes" and category not in boxed and not mentions(written, category):
            return True
    for category in _claimed(pair.answer, vocabulary):
        if category not in boxed and not mentions(written, category) and not _kin(category, boxed):
            return True
    return any(category in boxed for category in _denied(pair.answer, vocabulary))


def contradicts_counts(pair: Pair, context: Context, vocabulary: frozenset[str]) -> bool:
    """Counts things of a category otherwise than the boxes, and than every number that a caption gives for them."""
    return any(
        count not in allowed
        for category, count in _counted(pair, vocabulary)
        if (allowed := _possible_counts(category, context)) is not None
    )


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _category(name: str, vocabulary: frozenset[str]) -> str | None:
    """The category whose name this is, and nothing else."""
    wanted = key(name)
    return next((category for category in sorted(vocabulary) if wanted in exact_names(category)), None)


def _claimed(answer: str, vocabulary: frozenset[str]) -> set[str]:
    """Categories that a clause introduces: `there is a dog on the mat`, `you can see two red cars`."""
    found: set[str] = set()
    for clause in _CLAUSE.split(answer.lower()):
        opener = _OPENERS.search(clause)
        if opener is None:
            continue
        said = words(clause)
        if not HEDGES.isdisjoint(said):
            continue
        found |= _introduced(words(clause[opener.end() :]), vocabulary)
    return found


def _introduced(said: list[str], vocabulary: frozenset[str]) -> set[str]:
    """Of the words behind an opener: the noun phrase that comes first, if it is the name of a category."""
    if not said or not (said[0] in BEFORE_NAME or said[0].isdigit()):
        return set()
    start = 1
    while start < len(said) and said[start] in _ADJECTIVES:
        start += 1
    for length in (3, 2, 1):
        name, rest = said[start : start + length], said[start + length :]
        if len(name) == length and (not rest or rest[0] in AFTER_NAME):
            category = _category(" ".join(name), vocabulary)
            if category is not None:
                return {category}
    return set()


def _kin(category: str, boxed: set[str]) -> bool:
    """Whether a thing that is boxed may be called by this name too: a truck, a car; a couch, a chair."""
    return any(mentions(category, other) or mentions(other, category) for other in boxed)


def _denied(answer: str, vocabulary: frozenset[str]) -> set[str]:
    """Categories of which a clause says that there are none at all: `there is no dog in the picture`."""
    found = set()
    for clause in _CLAUSE.split(answer.lower()):
        match = _THERE_ARE.match(_plain(clause.split(",")[0]))
        if match is not None and match[1] == "no":
            category = _category(match[2], vocabulary)
            if category is not None:
                found.add(category)
    return found


def _counted(pair: Pair, vocabulary: frozenset[str]) -> list[tuple[str, int]]:
    """Categories with the number that the pair gives for all of them in the picture."""
    found = []
    asked = _HOW_MANY.match(_plain(pair.question))
    category = _category(asked[1], vocabulary) if asked is not None else None
    told = _only_number(pair.answer)
    if category is not None and told is not None:
        found.append((category, told))
    for clause in _CLAUSE.split(pair.answer.lower()):
        match = _THERE_ARE.match(_plain(clause.split(",")[0]))
        if match is None or not ("picture" in clause or "image" in clause or category is not None):
            continue
        count, named = number(match[1]), _category(match[2], vocabulary)
        if named is not None and count:
            found.append((named, count))
    return found


def _only_number(answer: str) -> int | None:
    """The number of an answer that is a number and hardly more: `2`, `Two people.`"""
    said = words(answer)
    numbers = [count for word in said if (count := number(word)) is not None]
    return numbers[0] if len(numbers) == 1 and len(said) <= 3 and HEDGES.isdisjoint(set(said) - set(NUMBERS)) else None


def _possible_counts(category: str, context: Context) -> set[int] | None:
    """Numbers that are not wrong for certain: of the boxes, of each caption, of a caption's groups taken together.

    None where a crowd leaves the number open, or where there are no boxes.
    """
    boxes = [box for box in context.boxes if box.category == category]
    if not boxes or any(box.crowd for box in boxes):
        return None
    allowed = {len(boxes)}
    for caption in context.captions:
        groups = _groups(words(caption), category)
        allowed |= {count for group in groups for count in group}
        allowed.add(sum(max(group) for group in groups if group))
    return allowed


def _groups(said: list[str], category: str) -> list[set[int]]:
    """For each word of a caption that may mean the category: the numbers in the four words before it."""
    names = wide_names(category)
    found, start = [], 0
    for place, word in enumerate(said):
        if singular(word) in names:
            found.append(_numbers_in(said[max(start, place - 4) : place]))
            start = place + 1
    return found


def _numbers_in(said: list[str]) -> set[int]:
    """Numbers among words; `a` and `another` count one, a couple or pair two."""
    found = {count for word in said if (count := number(word)) is not None}
    found |= {1 for word in said if word in ("a", "an", "another", "the")}
    return found | {2 for word in said if word in ("couple", "pair", "both")}
