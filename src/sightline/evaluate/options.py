"""Finding the option that an answer means, by rule alone.

Comes in: an answer, the options by letter. Goes out: a letter, `Z` for a refusal, or None where the rules find nothing.
Two sets of rules: VLMEvalKit's (matching_util.py, e8e78f05), which MMBench's figures are made with, and lmms-eval's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

REFUSAL = "Z"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
API_FAILED = "Failed to obtain answer via API"
NEAR_THE_END = 4
"""A letter counts if it first stands among the last so many tokens."""
_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)

LMMS_LETTERS = "ABCDE"
LMMS_FRAMES = (
    ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"),
    ("(", ")."), (":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."),
)  # fmt: skip
"""What lmms-eval allows before and after a letter, in this order."""


def vlmevalkit_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """VLMEvalKit's exact matching, without a judge."""
    return _vlmevalkit_letter(answer, options) or _vlmevalkit_text(answer, options)


def _vlmevalkit_letter(answer: str, options: Mapping[str, str]) -> str | None:
    if API_FAILED in answer:
        return None
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSAL
    tokens = answer.translate(_PUNCTUATION).split()
    present = [letter for letter in options if letter in tokens]
    if len(present) == 1 and tokens.index(present[0]) >= len(tokens) - NEAR_THE_END:
        return present[0]
    if not present and REFUSAL in tokens:
        return REFUSAL
    found = _ANSWER_IS.search(answer)
    return found[1].upper() if found and found[1].upper() in options else None


def _vlmevalkit_text(answer: str, options: Mapping[str, str]) -> str | None:
    """The one option whose text stands in the answer, unless the answer is twice as long as all options together."""
    if len(answer.lower()) > 2 * sum(len(text) for text in options.values()):
        return None
    return _only(letter for letter, text in options.items() if text.lower() in answer.lower())


def lmms_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """lmms-eval's three steps without a judge: a letter by itself or framed, an option's text, a letter anywhere."""
    return (
        _lmms_letter(answer)
        or _only(letter for letter, text in options.items() if text.lower() in answer.lower())
        or ranked_letter(answer, sorted(options))
    )


def _only(letters: Iterable[str]) -> str | None:
    found = list(letters)
    return found[0] if len(found) == 1 else None


def _lmms_letter(answer: str) -> str | None:
    """A to E, whichever options there are. `A` among more than three tokens is taken for the article."""
    if API_FAILED in answer:
        return None
    tokens = answer.split()
    present = [letter for letter in LMMS_LETTERS if letter in tokens]
    if len(present) == 1 and not ("A" in tokens and len(tokens) > 3):
        return present[0]
    for before, after in LMMS_FRAMES:
        framed = [letter for letter in LMMS_LETTERS if before + letter + after in tokens]
        if len(framed) == 1:
            return framed[0]
    return None


ANSWER_PHRASES = (
    *(
        f"{article}{kind}"
        for kind in ("answer is", "correct answer is", "best answer is", "correct option is")
        for article in ("the ", "")
    ),
    *(f"{article}{kind}" for kind in ("best option is", "choice is", "correct choice is") for article in ("the ", "")),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)


def ranked_letter(answer: str, letters: Sequence[str]) -> str | None:
    """lmms-eval's extractor of last resort (mcq_extract.py): the letter in the most telling place, and there the last.

    The places, most telling first: the start, the end, behind a phrase, in parentheses, before a period, a colon, a
    parenthesis, a blank; else anywhere.
    """
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    if not text:
        return None
    text = f" {text} "
    bare = text.strip()
    found: list[tuple[int, int, str]] = []
    for letter in letters:
        found += [
            (rank, text.rfind(form.format(letter)), letter) for rank, form in _FORMS if form.format(letter) in text
        ]
        found += [(7, at, letter) for at in _behind_phrases(text, letter)]
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((10, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else None


_FORMS = ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} "))


def _behind_phrases(text: str, letter: str) -> list[int]:
    """Where the letter first stands behind each phrase that is in the text."""
    lower = text.lower()
    ends = [lower.find(phrase) + len(phrase) for phrase in ANSWER_PHRASES if phrase in lower]
    return [at for end in ends if (at := text.find(letter, end)) != -1]
