"""Ids as people read them: which characters each stands for, with the invisible ones made visible.

Comes in: ids and their tokenizer. Goes out: `Cell`s, whose texts put together are the ids' text, and `Glyphs`, in which
a leading space, a newline or a direction mark can be seen. Knows no templates, no colors, no pages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_CHARACTER_IDS = 4
"""Ids that one character may be spread over: the bytes of its UTF-8."""

SPACE, TAB, NEWLINE = "·", "→\t", "⏎\n"
"""What is shown for white space; tab and newline also do what they always do."""

_HALF = "\N{REPLACEMENT CHARACTER}"
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})  # general categories of the Unicode standard


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Neighbouring ids that spell whole characters (mostly one id), from `position` on in the model's row."""

    ids: tuple[int, ...]
    text: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Glyphs:
    """A stretch of text as it is shown; `mark` if it stands for characters that cannot be seen."""

    text: str
    mark: bool


def spell(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, start: int, before: int | None) -> list[Cell]:
    """The characters of each id.

    Each is decoded after the cell before it, since decoders drop a space at the start of a text; ids that hold a part
    of a character wait for the rest of it.

    Args:
        ids: of one segment.
        start: position of the first one.
        before: the id in front of them, None at the start of the row.
    """
    cells: list[Cell] = []
    anchor = [] if before is None else [before]
    waiting: list[int] = []
    for number, token in enumerate(ids):
        waiting.append(token)
        text = _continuation(tokenizer, anchor, waiting)
        last = number + 1 == len(ids)
        if _HALF in text and len(waiting) < MAX_CHARACTER_IDS and not last:
            continue
        cells.append(Cell(ids=tuple(waiting), text=text, position=start + number + 1 - len(waiting)))
        anchor, waiting = waiting, []
    return cells


def _continuation(tokenizer: PreTrainedTokenizerBase, anchor: list[int], ids: list[int]) -> str:
    """What `ids` add to the text of `anchor`; their own text where they change it (bytes that make no character)."""
    opening, whole = _decoded(tokenizer, anchor), _decoded(tokenizer, [*anchor, *ids])
    return whole.removeprefix(opening) if whole.startswith(opening) else _decoded(tokenizer, ids)


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def glyphs(texts: Sequence[str]) -> list[list[Glyphs]]:
    """Texts that follow one another, as they are shown.

    A space between two visible characters is left alone, as everybody sees it; any other becomes `SPACE`. A character
    that cannot be seen, or that would turn the words around it, becomes its code point: `⟨U+202E⟩`.
    """
    whole = "".join(texts)
    shown: list[list[Glyphs]] = []
    place = 0
    for text in texts:
        pieces: list[Glyphs] = []
        for character in text:
            glyph = _glyph(character, before=whole[place - 1 : place], after=whole[place + 1 : place + 2])
            place += 1
            if pieces and pieces[-1].mark == glyph.mark:
                glyph = Glyphs(text=pieces.pop().text + glyph.text, mark=glyph.mark)
            pieces.append(glyph)
        shown.append(pieces)
    return shown


def _glyph(character: str, *, before: str, after: str) -> Glyphs:
    if character == " ":
        between = bool(before.strip() and after.strip())
        return Glyphs(text=" " if between else SPACE, mark=not between)
    if character in "\t\n":
        return Glyphs(text=TAB if character == "\t" else NEWLINE, mark=True)
    if unicodedata.category(character) in _INVISIBLE:
        return Glyphs(text=f"⟨U+{ord(character):04X}⟩", mark=True)
    return Glyphs(text=character, mark=False)
