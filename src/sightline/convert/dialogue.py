"""What every converter makes: dialogues about one picture, and word of what was left out.

Comes in: texts and names of pictures. Goes out: `Dialogue`s, and their LLaVA JSON. Knows nothing of files and datasets.

A unit is what a dataset counts: a question, a caption, a region's phrase, a conversation. Each unit of the official
files is in one dialogue or in one `LeftOut`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

IMAGE_FIRST = "<image>\n"

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
OCR_TOKENS = "\nReference OCR token: "
"""LLaVA-1.5's response-format prompts (arXiv 2310.03744, table 7; the data of its mixture)."""

BRIEF = "Provide a brief description of the given image."
"""One of the instructions in stage 1's files. The template `plain` of that stage does not show it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One unit with its picture: what is asked, what is answered, what names the picture as id and as path."""

    id: str
    image: str
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """One sample to be. `units` of the official files are in it (0 for a copy with other option letters)."""

    id: str
    image: str | None
    turns: tuple[tuple[str, str], ...]
    units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Units that no dialogue holds, under a reason to count by, and where the first of them stands."""

    reason: str
    place: str
    units: int = 1


Item = Dialogue | LeftOut


def merged(
    found: Iterable[Exchange | LeftOut],
    *,
    suffix: str = "",
    notes: Mapping[str, str] = MappingProxyType({}),
    at_most: int | None = None,
) -> Iterator[Item]:
    """One dialogue for each picture, with all that is asked about it.

    Pictures come in the order in which they are first asked about, questions in the files' order. LLaVA-1.5 merges so
    (arXiv 2310.03744, A.2); in its mixture the first question alone ends with the response-format prompt (`suffix`).

    Args:
        notes: by a picture's id, what else the first question ends with, before the prompt.
        at_most: longest dialogue, in exchanges; longer ones are cut in several.
    """
    pictures: dict[str, list[Exchange]] = {}
    for one in found:
        if isinstance(one, LeftOut):
            yield one
        else:
            pictures.setdefault(one.image, []).append(one)
    for exchanges in pictures.values():
        for start in range(0, len(exchanges), at_most or len(exchanges)):
            part = exchanges[start : start + (at_most or len(exchanges))]
            yield dialogue(part, suffix=notes.get(part[0].id, "") + suffix)


def dialogue(exchanges: Sequence[Exchange], *, suffix: str = "") -> Dialogue:
    """Exchanges about one picture as one dialogue."""
    turns = [(one.question, one.answer) for one in exchanges]
    turns[0] = (turns[0][0] + suffix, turns[0][1])
    return Dialogue(id=exchanges[0].id, image=exchanges[0].image, turns=tuple(turns), units=len(turns))


def llava_sample(made: Dialogue, identity: str) -> dict[str, object]:
    """LLaVA JSON: the picture is seen once, before the first question's words."""
    conversations = []
    for number, (question, answer) in enumerate(made.turns):
        seen = IMAGE_FIRST if made.image is not None and number == 0 else ""
        conversations.append({"from": "human", "value": seen + question})
        conversations.append({"from": "gpt", "value": answer})
    picture = {} if made.image is None else {"image": made.image}
    return {"id": identity, **picture, "conversations": conversations}


def one_line(text: str) -> str:
    """A question, answer or caption without line ends, tabs and double blanks."""
    return " ".join(text.split())


def capitalised(text: str) -> str:
    """With a large first letter and the rest as it is, as answers in LLaVA-1.5's mixture begin."""
    large = text[:1].upper()
    return large + text[1:] if len(large) == 1 else text  # German's sharp s has none


def sentence(text: str) -> str:
    """With a large first letter and one period at the end, as descriptions of regions in LLaVA-1.5's mixture."""
    return capitalised(text.rstrip(". ")) + "."


def majority(answers: Sequence[str]) -> str:
    """The commonest answer; among several as common, the one that is given first. Blank ones do not count.

    VQAv2's `multiple_choice_answer` is the commonest of ten too. How it breaks ties is not documented: this is ours.
    """
    counts = Counter(answer for answer in answers if answer)
    return max(counts, key=counts.__getitem__) if counts else ""


def drawn(total: int, wanted: int, seed: str) -> frozenset[int]:
    """`wanted` of the numbers below `total`, the same ones for the same seed; all of them if there are no more."""
    return frozenset(random.Random(seed).sample(range(total), min(wanted, total)))
