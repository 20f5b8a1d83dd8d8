"""From generated ids to the words of an answer, while it grows.

Comes in: ids one at a time, a `StopRule`. Goes out: pieces of whole characters, without what ends the answer. Decodes
a few tokens at a time, so that an answer costs in proportion to its length. Does not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers write for bytes that are no character, or not yet one."""
UNFINISHED_BYTES = 3
"""The most that can be missing their end: a character has at most four bytes (RFC 3629, section 3)."""
MOST_PENDING = 16
"""Tokens after which bytes that made no character are shown as they are: a token has at least one byte."""


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When an answer is over: at a stop id, or where its text holds one of `texts` (such as a newline)."""

    ids: frozenset[int]
    texts: tuple[str, ...] = ()
    decode: Callable[[Sequence[int]], str]

    def text(self, answer: Sequence[int]) -> str:
        """A whole answer in words, without what ended it."""
        words = self.decode([token for token in answer if token not in self.ids])
        for text in self.texts:
            words = words.split(text, 1)[0]
        return words.strip()


class AnswerText:
    """The words of one answer: what `push` and `finish` return, joined, is the answer without spaces at its ends.

    Attributes:
        over: the rule ended the answer.
    """

    def __init__(self, rule: StopRule) -> None:
        self.over = False
        self._rule = rule
        self._anchor: list[int] = []  # the newest settled tokens: some tokenizers write a first token otherwise
        self._pending: list[int] = []  # tokens after them
        self._known = ""  # the settled beginning of the text of both
        self._held = ""  # settled, but a space that may be the last, or the beginning of what may be a stop text
        self._begun = False

    def push(self, token: int) -> str:
        """What can be shown after this token: never part of a character, nor what may yet become a stop text."""
        if token in self._rule.ids:
            self.over = True
            return ""
        return self._show(self._settle(token))

    def finish(self) -> str:
        """The rest of an answer that gets no more tokens."""
        rest = self._rule.decode([*self._anchor, *self._pending])[len(self._known) :]
        return self._show(rest, last=True)

    def _settle(self, token: int) -> str:
        """The characters that are complete with this token."""
        pending = [*self._pending, token]
        text = self._rule.decode([*self._anchor, *pending])
        settled = _without_unfinished(text)
        if len(pending) >= MOST_PENDING:
            settled = text
        elif not settled.startswith(self._known):  # bytes after it can make a complete character unreadable for a while
            settled = self._known
        new = settled[len(self._known) :]
        if settled != text:
            self._pending, self._known = pending, settled
        elif new:
            self._anchor, self._pending, self._known = pending, [], self._rule.decode(pending)
        return new  # a token that is complete and shows nothing leaves no trace: it is a special one

    def _show(self, new: str, *, last: bool = False) -> str:
        words = self._held + new
        ends = [place for text in self._rule.texts if (place := words.find(text)) >= 0]
        if ends:
            self.over, words, last = True, words[: min(ends)], True
        begun = 0 if last else max((_begun(words, text) for text in self._rule.texts), default=0)
        shown = words[: len(words) - begun].rstrip()
        self._held = "" if last else words[len(shown) :]
        if not self._begun:
            shown = shown.lstrip()
        self._begun = self._begun or bool(shown)
        if ends:
            self._anchor, self._pending, self._known = [], [], ""
        return shown


def _without_unfinished(text: str) -> str:
    """Text without the characters at its end that the next bytes may change."""
    return text[: max(len(text.rstrip(UNFINISHED)), len(text) - UNFINISHED_BYTES)]


def _begun(words: str, text: str) -> int:
    """How many characters at the end of `words` are the beginning of `text`."""
    return next((length for length in range(len(text) - 1, 0, -1) if words.endswith(text[:length])), 0)
