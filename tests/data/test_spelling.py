"""Ids as people read them: every id's characters, none lost, none invisible."""

from __future__ import annotations

import pytest

from sightline.data.spelling import Glyphs, glyphs, spell
from tests.data.toy_tokenizers import FAMILIES, family

TEXTS = ["a car", " a car", "  two\n\n  lines\t", "naïve café", "日本語", "🙂", "👩‍👩‍👧", "1,000.50 </s> <image>", ""]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("text", TEXTS)
def test_cells_put_together_are_the_text_and_hold_every_id_once(name: str, text: str) -> None:
    tokenizer = family(name)
    opening, ids = tokenizer("x", add_special_tokens=False)["input_ids"], []
    whole = tokenizer("x" + text, add_special_tokens=False)["input_ids"]
    if whole[: len(opening)] == opening:
        ids = whole[len(opening) :]
    cells = spell(tokenizer, ids, start=5, before=opening[-1])
    assert [id_ for cell in cells for id_ in cell.ids] == ids
    assert [cell.position for cell in cells] == [
        5 + sum(len(cell.ids) for cell in cells[:n]) for n in range(len(cells))
    ]
    decoded = tokenizer.decode([*opening, *ids], clean_up_tokenization_spaces=False)
    assert "".join(cell.text for cell in cells) == decoded.removeprefix("x")


def test_a_word_keeps_the_space_in_front_of_it() -> None:
    tokenizer = family("llama-2")
    ids = tokenizer("a car", add_special_tokens=False)["input_ids"]
    cells = spell(tokenizer, ids[1:], start=1, before=ids[0])
    assert "".join(cell.text for cell in cells) == " car"


def test_a_character_spread_over_ids_is_one_cell() -> None:
    tokenizer = family("qwen2.5")
    ids = tokenizer("🙂", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    (cell,) = spell(tokenizer, ids, start=0, before=None)
    assert (cell.ids, cell.text) == (tuple(ids), "🙂")


def test_bytes_that_never_make_a_character_are_shown_all_the_same() -> None:
    tokenizer = family("qwen2.5")
    half = tokenizer("🙂", add_special_tokens=False)["input_ids"][:1] * 6
    cells = spell(tokenizer, half, start=0, before=None)
    assert [id_ for cell in cells for id_ in cell.ids] == half
    assert "\N{REPLACEMENT CHARACTER}" in cells[0].text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a car", "a car"),
        (" a  b ", "·a··b·"),
        ("a\nb\tc", "a⏎\nb→\tc"),
        ("a\u200bb", "a⟨U+200B⟩b"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("a\u00a0b", "a⟨U+00A0⟩b"),
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert "".join(piece.text for piece in glyphs([text])[0]) == shown


def test_a_space_is_judged_by_its_neighbours_in_other_tokens() -> None:
    a, mark = Glyphs(text="a", mark=False), Glyphs(text="·", mark=True)
    plain = Glyphs(text=" b", mark=False)
    assert glyphs(["a", " b"]) == [[a], [plain]]
    assert glyphs(["a", " ", "\n"])[1] == [mark]
    assert glyphs(["a", " "])[1] == [mark]
