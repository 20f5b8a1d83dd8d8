"""What dialogues are made of: how questions begin, how long answers are, which things and which doings they name.

Comes in: dialogues with their contexts. Goes out: counts. Does not know how they are drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from sightline.synth.context import Context
from sightline.synth.grammar import Pair
from sightline.synth.vocabulary import exact_names, key, words

LENGTHS = (1, 2, 5, 10, 20, 40, 80, 160)
"""Lower ends of the classes of answer lengths, in words."""
_BE = frozenset({"is", "are", "was", "were", "be", "been"})
_NO_DOING = frozenset(
    {"being", "nothing", "something", "anything", "everything", "during", "morning", "evening", "string"}
)

Item = TypeVar("Item")


@dataclass(kw_only=True)
class Statistics:
    """Counts over dialogues.

    Attributes:
        openings: the first two words of questions.
        lengths: words of answers, by the lower end of their class in `LENGTHS`.
        things: categories of the context that a dialogue names.
        doings: words in -ing behind a form of `to be`: `is standing`.
        pairs: questions with answers, by kind.
        words: of answers, by kind.
    """

    openings: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    things: Counter[str] = field(default_factory=Counter)
    doings: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, context: Context, pairs: Sequence[Pair]) -> None:
        """One dialogue."""
        for pair in pairs:
            said = words(pair.answer)
            self.openings[" ".join(words(pair.question)[:2])] += 1
            self.lengths[max((low for low in LENGTHS if low <= len(said)), default=LENGTHS[0])] += 1
            self.doings.update(
                word
                for before, word in pairwise(said)
                if before in _BE and word.endswith("ing") and word not in _NO_DOING
            )
            self.words[kind] += len(said)
        self.pairs[kind] += len(pairs)
        named = key(" ".join(text for pair in pairs for text in pair))
        self.things.update(
            category for category in dict.fromkeys(box.category for box in context.boxes) if _names(named, category)
        )


def _names(said: tuple[str, ...], category: str) -> bool:
    return any(said[start : start + len(name)] == name for name in exact_names(category) for start in range(len(said)))


def spread_add(kept: list[Item], item: Item, number: int, *, most: int) -> None:
    """Keeps at most `most` items at even distances of a sequence that is `number` long with this one.

    Every item is kept at first; when there is no room, every second one goes, and only every second one comes from then
    on, and so on.
    """
    stride = 1
    while (number - 1) // stride >= most:
        stride *= 2
    if stride > 1 and (number - 1) % stride == 0 and len(kept) >= most:
        del kept[1::2]
    if (number - 1) % stride == 0:
        kept.append(item)
