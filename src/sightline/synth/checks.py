"""Whether a reply may be trained on.

Comes in: a reply, what it is about, the kind that it is of. Goes out: a reason code, or None. Pure. A check speaks only
where it is certain: a good reply that is thrown away costs money, a bad one that is let through costs little more than
before. The reasons, in the order in which they are looked for, stand in `REASONS`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping

from sightline.ask.question import Question, Reply
from sightline.data.values import checked_text
from sightline.errors import DataError
from sightline.synth.claims import contradicts_counts, contradicts_objects
from sightline.synth.context import Context
from sightline.synth.grammar import GrammarError, Pair
from sightline.synth.kinds import Kind
from sightline.synth.plan import Subject
from sightline.synth.vocabulary import words

REASONS = {
    "refused": "the teacher declined, or spoke of itself instead of the picture",
    "grammar": "not in the form that was asked for",
    "pair_count": "too few or too many questions",
    "text_control": "control characters or halves of characters",
    "answer_empty": "an answer without words",
    "image_mark": "<image> or another mark for a picture",
    "special_token": "a special token of a language model",
    "role_marker": "the name of a speaker in front of a line",
    "url": "an address on the web",
    "leak_source": "speaks of captions, boxes or descriptions instead of the picture",
    "leak_coordinates": "recites coordinates",
    "language": "in another script than the captions",
    "too_short": "an answer with fewer words than the kind allows",
    "too_long": "an answer with more words than the kind allows",
    "question_repeated": "the same question twice",
    "contradicts_objects": "says that something is there that is not, or the other way round",
    "contradicts_counts": "counts otherwise than captions and boxes do",
}

_FLAGS = re.IGNORECASE | re.VERBOSE
_REFUSED = re.compile(
    r"""\bas\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model|text-based)\b
    | \bi(?:'m|\ am)\ (?:just\ |only\ )?an?\ (?:ai|(?:large\ )?language\ model|text-based)\b
    | \bi(?:'m|\ am)\ (?:very\ |so\ |really\ )?sorry\b,?\ ?(?:but\ )?(?:i|this|that)\b
    | \bi\ (?:can(?:no|')t|am\ (?:not\ able|unable)\ to|won't)\ (?:assist|help|comply|fulfill?|do\ that)\b
    | \bi(?:\ can(?:no|')t|(?:'m|\ am)\ (?:not\ able|unable)\ to)\ (?:view|see|access|analy[sz]e|process)
      \ (?:the\ |any\ |this\ |that\ )?(?:actual\ )?(?:image|picture|photo|visual)s?\b
    | \bi\ (?:do\ not|don't)\ have\ (?:access\ to|the\ ability\ to\ (?:see|view))\b""",
    _FLAGS,
)
_IMAGE = re.compile(
    r"<\s*/?\s*(?:image|img|video|im_start|im_end|im_patch)\b[^>]*> | \[\s*(?:image|img)\s*\]",
    _FLAGS,
)
_SPECIAL = re.compile(
    r"""<\|[^|<>\n]{1,40}\|> | </?s> | \[/?INST\] | <</?SYS>>
    | <(?:unk|pad|bos|eos|cls|sep|mask|start_of_turn|end_of_turn|begin_of_text|end_of_text|eot_id|endoftext)>""",
    _FLAGS,
)
_ROLE = re.compile(
    r"""^\s*(?:\#{2,}\s*)?\**(?:user|assistant|system|human|gpt|bot|ai|chatbot|question|answer)\s*\d*\s*\**\s*:
    | ^\s*={3,}\s*$""",
    _FLAGS | re.MULTILINE,
)
_URL = re.compile(r"\b(?:https?|ftp):// | \bwww\.\w | \b[\w-]+\.(?:com|org|net|io|gov|edu)\b", _FLAGS)
_LEAKS = {
    "caption": re.compile(r"\bcaption(?:s|ed|ing)?\b", _FLAGS),
    "bounding": re.compile(r"\bbounding[ -]?box(?:es)?\b | \bbbox(?:es)?\b", _FLAGS),
    "annotat": re.compile(r"\bannotat(?:ion|ions|ed|or|ors)\b", _FLAGS),
    "coordinate": re.compile(r"\bcoordinates\b", _FLAGS),
    "description": re.compile(
        r"""\b(?:the|this|these|each|your|given|provided|text|textual|image|picture)\ (?:descriptions?|sentences)
          \ (?:(?:that\ )?(?:was|were|is|are)\ )?(?:says?|said|states?|mentions?|mentioned|provided|given|specif\w+
          |indicates?|describes?|suggests?|do(?:es)?\ not|do(?:es)?n't)\b
        | \b(?:based\ on|according\ to|from|in|by|per)\ (?:the\ |these\ |your\ )?(?:given\ |provided\ |available\ )?
          (?:(?:image\ |picture\ )?descriptions?|sentences|textual\ information|information\ (?:given|provided))\b
        | \bobjects?\ (?:list|detected|annotations)\b | \blist\ of\ (?:detected\ )?objects\b""",
        _FLAGS,
    ),
}
"""What betrays the teacher's source, under a word that excuses it: a word of the captions stands in the picture."""
_COORDINATES = re.compile(
    r"""[\[(]\s*[01]?\.\d+\s*(?:,\s*[01]?\.\d+\s*){1,3}[\])] | \b[xy][12]?\s*=\s*[01]?\.\d
    | \b0\.\d{3}\b | \b0\.\d{2}\b\D{1,12}\b0\.\d{2}\b""",
    _FLAGS,
)
_LATIN_SHARE = 0.5
"""Of the letters: below it a text counts as not Latin."""
_LETTERS = 12
"""Fewer letters than this say nothing about a script."""


class Judge:
    """Judges replies. `vocabulary`: the categories whose things are boxed wherever they occur in the source."""

    def __init__(self, kinds: Mapping[str, Kind], vocabulary: Collection[str]) -> None:
        self.kinds = kinds
        self.vocabulary = frozenset(vocabulary)

    def __call__(self, question: Question, reply: Reply) -> str | None:
        return self.reason(question.kind, Subject.from_json(question.subject), reply.text)

    def reason(self, kind: str, subject: Subject, text: str) -> str | None:
        """One of `REASONS`, or None."""
        try:
            pairs = subject.pairs(text)
        except GrammarError:
            return "refused" if _REFUSED.search(text) else "grammar"
        rules = self.kinds[kind]
        reason = _form(pairs, rules, own_count=not subject.questions) or _traces(pairs, subject.context)
        return reason or _size(pairs, rules) or _claims(pairs, subject.context, self.vocabulary)


def _form(pairs: list[Pair], kind: Kind, *, own_count: bool) -> str | None:
    if any(_REFUSED.search(pair.answer) for pair in pairs):
        return "refused"
    least, most = kind.pairs
    if own_count and not least <= len(pairs) <= most:
        return "pair_count"
    for text in (text for pair in pairs for text in pair):
        try:
            checked_text(text, "reply")
        except DataError:
            return "text_control"
    return None if all(words(pair.answer) or _letters(pair.answer) for pair in pairs) else "answer_empty"


def _traces(pairs: list[Pair], context: Context) -> str | None:
    """What does not belong into a conversation about a picture, whatever it says."""
    text = "\n".join(text for pair in pairs for text in pair)
    for reason, pattern in (
        ("image_mark", _IMAGE), ("special_token", _SPECIAL), ("role_marker", _ROLE), ("url", _URL),
    ):  # fmt: skip
        if pattern.search(text):
            return reason
    captions = "\n".join(context.captions)
    if any(stem not in captions.lower() and pattern.search(text) for stem, pattern in _LEAKS.items()):
        return "leak_source"
    if _COORDINATES.search(text):
        return "leak_coordinates"
    return "language" if _is_latin(captions) is True and _is_latin(text) is False else None


def _size(pairs: list[Pair], kind: Kind) -> str | None:
    least, most = kind.words
    lengths = [len(pair.answer.split()) for pair in pairs]
    if min(lengths) < least:
        return "too_short"
    if max(lengths) > most:
        return "too_long"
    asked = Counter(tuple(words(pair.question)) for pair in pairs)
    return "question_repeated" if max(asked.values()) > 1 else None


def _claims(pairs: list[Pair], context: Context, vocabulary: frozenset[str]) -> str | None:
    if any(contradicts_objects(pair, context, vocabulary) for pair in pairs):
        return "contradicts_objects"
    return "contradicts_counts" if any(contradicts_counts(pair, context, vocabulary) for pair in pairs) else None


def _letters(text: str) -> list[str]:
    return [letter for letter in text if letter.isalpha()]


def _is_latin(text: str) -> bool | None:
    """Whether a text is written in Latin letters; None for a text that is too short to say."""
    letters = _letters(text)[:400]
    if len(letters) < _LETTERS:
        return None
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return latin / len(letters) >= _LATIN_SHARE
