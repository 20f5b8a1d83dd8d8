"""The tokenizer of the benchmarks: a word is a token, so drawn lengths are true lengths."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.words import build_tokenizer, number_of_words, text, words

from sightline.data.legacy_templates import VICUNA_SYSTEM

ROWS = 2048


@pytest.mark.parametrize("tokens", [1, 2, 17, 300])
def test_a_text_has_as_many_tokens_as_words(tokens: int) -> None:
    tokenizer = build_tokenizer(ROWS)
    written = text(tokens, np.random.default_rng(tokens), words(number_of_words(ROWS)))
    assert len(tokenizer(written, add_special_tokens=False).input_ids) == tokens
    assert len(tokenizer(f" {written}", add_special_tokens=False).input_ids) == tokens


@pytest.mark.parametrize("rows", [ROWS, 32_000])
def test_the_vocabulary_has_exactly_the_rows_asked_for(rows: int) -> None:
    assert len(build_tokenizer(rows)) == rows


def test_the_system_text_is_about_as_long_as_with_llamas_tokenizer() -> None:
    tokens = build_tokenizer(ROWS)(VICUNA_SYSTEM, add_special_tokens=False).input_ids
    assert 30 <= len(tokens) <= 50  # Llama's: 34


def test_any_text_survives_a_round_trip() -> None:
    tokenizer = build_tokenizer(ROWS)
    written = "USER: BADO CEFI é\nASSISTANT: ok"
    assert tokenizer.decode(tokenizer(written, add_special_tokens=False).input_ids) == written
