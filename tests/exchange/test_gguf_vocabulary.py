"""llama.cpp is told of our tokenizer so that its own gives the same ids, or is not told at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sightline.data.processor import load_tokenizer
from sightline.exchange.gguf_vocabulary import TokenType, piece_scores, tokenizer_obstacle, unlisted_piece, vocabulary
from tests.tiny_checkpoint import tiny_processor

TOKENIZER = Path(__file__).parents[2].parent / "shared" / "parity" / "llava-tiny-original"


def keys(family: str, *, rows: int | None = None, **options: Any) -> dict[str, Any]:
    processor = tiny_processor(family, **options)
    return dict(vocabulary(processor, rows=rows or len(processor.tokenizer), chat_template=None))


@pytest.mark.parametrize(
    ("family", "model", "pre"),
    [("llama-2", "llama", "default"), ("mistral", "llama", "default"), ("qwen2.5", "gpt2", "qwen2")],
)
def test_each_kind_of_tokenizer_has_a_name(family: str, model: str, pre: str) -> None:
    found = keys(family)
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == (model, pre)


def test_every_row_has_a_text_and_a_type() -> None:
    processor = tiny_processor("llama-2")
    count = len(processor.tokenizer)
    found = keys("llama-2", rows=count + 5)
    texts, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(texts) == len(types) == len(found["tokenizer.ggml.scores"]) == count + 5
    assert texts[:3] == ["<unk>", "<s>", "</s>"]
    assert types[:3] == [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    assert (texts[3], types[3]) == ("<0x00>", TokenType.BYTE)
    assert (texts[processor.image_token_id], types[processor.image_token_id]) == ("<image>", TokenType.CONTROL)
    assert texts[count:] == [f"[PAD{row}]" for row in range(count, count + 5)]
    assert set(types[count:]) == {TokenType.UNUSED}
    assert len(set(texts)) == len(texts)


def test_special_ids_and_what_is_added_are_said() -> None:
    processor = tiny_processor("qwen2.5")
    found = keys("qwen2.5")
    tokenizer = processor.tokenizer
    assert found["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert "tokenizer.ggml.eot_token_id" not in found  # the answer ends with EOS
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert keys("llama-2")["tokenizer.ggml.add_bos_token"] is True
    assert keys("llama-2")["tokenizer.ggml.bos_token_id"] == 1
    plain = tokenizer.get_added_vocab()["<think>"]
    assert found["tokenizer.ggml.token_type"][plain] == TokenType.USER_DEFINED


def test_what_ends_an_answer_and_is_not_eos_is_said() -> None:
    processor = tiny_processor("llama-3")
    tokenizer = processor.tokenizer
    assert processor.stop_ids > {tokenizer.eos_token_id}
    found = keys("llama-3")["tokenizer.ggml.eot_token_id"]
    assert found == tokenizer.convert_tokens_to_ids("<|eot_id|>") != tokenizer.eos_token_id


@pytest.mark.parametrize(("family", "adds"), [("llama-2", True), ("llama-2-legacy", True), ("gemma", False)])
def test_the_dummy_space_is_said(family: str, adds: bool) -> None:
    assert keys(family)["tokenizer.ggml.add_space_prefix"] is adds


def test_merges_are_pairs_in_order() -> None:
    processor = tiny_processor("qwen2.5")
    listed = json.loads(processor.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert keys("qwen2.5")["tokenizer.ggml.merges"] == [" ".join(pair) for pair in listed]


@pytest.mark.parametrize(
    ("merges", "scores"),
    [
        ([("a", "b")], {"ab": 0}),
        ([("a", "b"), ("b", "a")], {"ab": 0, "ba": -1}),
        ([("a", "b"), ("ab", "a"), ("a", "ba")], {"ab": 0, "aba": -1}),  # two ways to one piece
        ([("b", "b"), ("a", "a"), ("aa", "a"), ("aa", "aa"), ("a", "aa"), ("a", "b")],
         {"bb": 0, "aa": -1, "aaa": -2, "aaaa": -2, "ab": -3}),  # mixed: the same score
    ],
)  # fmt: skip
def test_scores_come_from_the_order_of_merges(merges: list[tuple[str, str]], scores: dict[str, int]) -> None:
    vocab = {piece: index for index, piece in enumerate(["a", "b", *scores])}
    found = piece_scores(vocab, merges, rows=len(vocab) + 1)
    assert {piece: found[vocab[piece]] for piece in scores} == scores
    assert found[vocab["a"]] == 0
    assert found[-1] < -9999


@pytest.mark.parametrize(
    ("merges", "found"),
    [
        ([("a", "b"), ("ab", "a"), ("a", "ba")], None),
        ([("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")], None),
        ([("a", "b"), ("b", "a"), ("ab", "a")], "aba"),  # (a, ba) would do as well
    ],
)
def test_a_list_that_lacks_a_way_is_none_of_sentencepieces(merges: list[tuple[str, str]], found: str | None) -> None:
    vocab = {"a": 0, "b": 1} | {left + right: 2 + place for place, (left, right) in enumerate(merges)}
    assert unlisted_piece(vocab, merges) == found


def test_a_piece_that_no_merge_makes_is_hidden() -> None:
    """llama.cpp would make it of two letters, and our tokenizer never does."""
    processor = tiny_processor("llama-2")
    row = processor.tokenizer.get_vocab()["\n\n"]
    found = keys("llama-2")
    assert found["tokenizer.ggml.tokens"][row] == f"[PAD{row}]"
    assert found["tokenizer.ggml.token_type"][row] == TokenType.UNUSED


def tokenizer_with(pre_tokenizer: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize(
    ("pre_tokenizer", "refused"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), False),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), True),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                  pre_tokenizers.ByteLevel(add_prefix_space=False)]), False),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False),
                                  pre_tokenizers.ByteLevel(add_prefix_space=False)]), True),
        (pre_tokenizers.Whitespace(), True),
    ],
    ids=["gpt-2", "prefix-space", "smollm", "digits-together", "whitespace"],
)  # fmt: skip
def test_a_cut_that_llama_cpp_cannot_make_is_refused(pre_tokenizer: Any, refused: bool) -> None:
    assert (tokenizer_obstacle(tokenizer_with(pre_tokenizer)) is not None) is refused


def test_other_kinds_of_tokenizer_are_refused() -> None:
    backend = Tokenizer(models.Unigram([("a", 0.0), ("b", -1.0)], unk_id=0))
    assert "Unigram" in str(tokenizer_obstacle(PreTrainedTokenizerFast(tokenizer_object=backend)))


@pytest.mark.skipif(not TOKENIZER.exists(), reason="no LLaMA tokenizer: ../shared/parity is absent")
def test_llamas_own_scores_are_in_the_same_order() -> None:
    """Every two pieces that differ in score stand in the order of sentencepiece's own scores."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(str(TOKENIZER / "tokenizer.model"))
    tokenizer = load_tokenizer(str(TOKENIZER))
    assert tokenizer_obstacle(tokenizer) is None
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    found = piece_scores(model["vocab"], merges, rows=32000)
    made = sorted({model["vocab"][left + right] for left, right in merges})
    order = sorted(made, key=lambda row: (-pieces.get_score(row), -found[row]))
    assert [found[row] for row in order] == sorted((found[row] for row in made), reverse=True)
