"""Inspections on stdout: for people, or as JSON.

Comes in: `Inspection`s, one by one. Goes out: each of them, after it has been printed. For people, what is trained on
has a bar on its left and is green, so it stands out with and without colors; neighbours among them differ.
Computes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sightline.data.inspection import Inspection, SeenPicture, SeenSegment
from sightline.data.spelling import Cell, glyphs, spell

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIPED_WIDTH = 120
"""Columns when the output is no terminal."""

TRAINED, TRAINED_TOO = "bold green", "bold bright_green underline"
"""Tokens in turn, so that each can be told from its neighbours."""
SPECIAL, PICTURE, MARK, CUT, QUIET, BAD = "magenta", "bold cyan", "dim", "dim strike", "dim", "bold red"


NOTES = 20
"""Most lines on stderr about samples and pictures that cannot be used; the others are counted."""


def print_samples(
    seen: Iterable[Inspection], tokenizer: PreTrainedTokenizerBase, *, out: TextIO
) -> Iterator[Inspection]:
    """Prints each sample for people, then passes it on."""
    width = None if out.isatty() else PIPED_WIDTH
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    for one in seen:
        console.print(render(one, tokenizer))
        yield one


def print_json(seen: Iterable[Inspection], *, out: TextIO, say: Callable[[str], None]) -> Iterator[Inspection]:
    """Prints one JSON array, a sample a line; passes each on. An error in between leaves the array open."""
    opening = "["
    notes = 0
    for one in seen:
        out.write(f"{opening}\n{json.dumps(one.to_json())}")
        opening = ","
        for note in one.notes:
            notes += 1
            if notes <= NOTES:
                say(note)
        yield one
    if notes > NOTES:
        say(f"... and {notes - NOTES} more such lines")
    out.write("\n]\n")


def render(seen: Inspection, tokenizer: PreTrainedTokenizerBase) -> Group:
    """One sample: a headline, its numbers, its pictures, then every segment with its ids."""
    lines: list[RenderableType] = [
        Rule(Text(f"{_one_line(seen.id) if seen.id is not None else 'no id'}"), align="left", style=QUIET),
        Text(f"{_one_line(seen.source)}, template {seen.template}", style=QUIET),
    ]
    lines += [Text(_one_line(note), style=BAD) for note in seen.notes]
    if seen.segments:
        lines.append(_numbers(seen))
        lines += [_picture(number, picture) for number, picture in enumerate(seen.pictures)]
        lines += [Text(), _segments(seen, tokenizer)]
    return Group(*lines, Text())


def _numbers(seen: Inspection) -> Text:
    words = Text()
    words.append(f"{seen.trained} of {seen.positions} positions trained ({seen.share:.1%})", style=TRAINED)
    if seen.cut:
        words.append(f", {seen.cut} cut off by max_length {seen.max_length}", style=BAD)
    if seen.span is not None:
        words.append(f", {seen.span.start} to {seen.span.end} of packed row {seen.span.row}", style=QUIET)
    return words


def _picture(number: int, picture: SeenPicture) -> Text:
    words = Text(f"picture {number + 1}  {_one_line(picture.path)}", style=PICTURE)
    if picture.size is not None:
        size = f"{picture.size[0]} x {picture.size[1]} {picture.mode}"
        tiles = f"{picture.tiles} tile{'s' if picture.tiles > 1 else ''} of {picture.tile_size} x {picture.tile_size}"
        words.append(f"  {size}, {picture.policy} to {tiles}, {picture.tokens} tokens", style="not bold")
    return words


def _segments(seen: Inspection, tokenizer: PreTrainedTokenizerBase) -> Table:
    """Position and kind on the left, the segment on the right, its ids below it."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style=QUIET, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    pictures = 0
    for segment in seen.segments:
        bar = Text("┃", style=TRAINED) if segment.trained else Text(" ")
        if segment.kind == "picture":
            pictures += 1
            words = Text(f"[picture {pictures}: {_one_line(segment.text)}]", style=PICTURE)
            ids = f"{len(segment.ids)} placeholders ({segment.ids[0]})"
            if segment.end > seen.positions:
                words.stylize(CUT)
        else:
            words = _words(segment, tokenizer, before=before, kept=seen.positions)
            ids = " ".join(map(str, segment.ids))
        table.add_row(str(segment.start), Text(segment.kind, style=QUIET), bar, words)
        table.add_row("", "", bar, Text(ids, style=QUIET))
        before = segment.ids[-1]
    return table


def _words(segment: SeenSegment, tokenizer: PreTrainedTokenizerBase, *, before: int | None, kept: int) -> Text:
    """The segment's text in its tokens' shades."""
    if segment.kind != "text":
        style = f"reverse {TRAINED if segment.trained else SPECIAL}"
        return Text().append(_one_line(segment.text), style=CUT if segment.end > kept else style)
    cells: list[Cell] = spell(tokenizer, segment.ids, start=segment.start, before=before)
    shades = (TRAINED, TRAINED_TOO) if segment.trained else ("", "")
    words = Text()
    for number, (cell, pieces) in enumerate(zip(cells, glyphs([cell.text for cell in cells]), strict=True)):
        style = CUT if cell.position + len(cell.ids) > kept else shades[number % 2]
        for piece in pieces:
            words.append(piece.text, style=f"{style} {MARK}" if piece.mark else style)
    words.rstrip()  # the last newline's own line would be empty
    return words


def _one_line(text: str) -> str:
    """A text of unknown origin on one line, with nothing in it that a terminal obeys."""
    return "".join(piece.text for piece in glyphs([text])[0]).replace("\n", "") if text else ""
