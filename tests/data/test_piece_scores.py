"""Tokenizers made from a sentencepiece model cut texts as sentencepiece does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.piece_scores import in_order, order_merges_by_score
from tests.data.original import PARITY, llama, needs_llama
from tests.data.toy_tokenizers import family

SPACED = [
    "while being safe.  Your answers", "x = 1\n    if y:\n        z", "a   b    c     d", "two  ", "    ", " " * 40,
    "end.  \n\n  start", "tabs\t\t and  spaces", "naïve  café", "日本語  テキスト", "🙂  🏳️‍🌈", "1  234   5",
    "```python\n  def f():\n    return 1\n```", "## a\n### b", "A cat.", "\u00a0 \u3000x",
]  # fmt: skip


def test_the_best_score_comes_first_and_of_equal_ones_the_longest() -> None:
    scores = {"▁▁": -1e9, "▁▁▁": -1e9, "▁▁▁▁": -1e9, "▁t": -1.0, "he": -2.0, "▁the": -3.0}
    merges = [("▁", "▁"), ("▁", "▁▁"), ("▁▁", "▁"), ("▁▁▁", "▁"), ("▁t", "he"), ("▁", "t"), ("h", "e")]
    assert in_order(merges, scores=scores) == [
        ("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁▁▁", "▁"), ("▁▁", "▁"), ("▁", "▁▁"), ("▁", "▁"),
    ]  # fmt: skip


@needs_llama
@pytest.mark.parametrize("words", SPACED)
@pytest.mark.parametrize("legacy", [False, True])
def test_pieces_are_those_of_sentencepiece(words: str, legacy: bool) -> None:
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(PARITY / "llava-tiny-original" / "tokenizer.model"))
    whole = f"x{words}"  # where a text starts with a space, fast tokenizers leave the dummy space out
    assert llama(legacy)(whole, add_special_tokens=False)["input_ids"] == model.encode(whole)


def test_a_tokenizer_with_its_own_order_is_left_alone(tmp_path: Path) -> None:
    tokenizer = family("llama-2")
    before = tokenizer.backend_tokenizer.to_str()
    order_merges_by_score(tokenizer)
    (tmp_path / "tokenizer.json").write_text("{}")
    tokenizer.vocab_file = str(tmp_path / "tokenizer.model")
    order_merges_by_score(tokenizer)
    del tokenizer.vocab_file
    assert tokenizer.backend_tokenizer.to_str() == before
