"""Tokenizer files that the software of the original's time reads."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoTokenizer

from sightline.exchange.original_tokenizer import older_format, save_original_tokenizer
from tests.tiny_checkpoint import tiny_processor


def test_merges_are_text_and_metaspace_says_its_prefix() -> None:
    described = {
        "model": {"type": "BPE", "merges": [["a", "b"], ["ab", "c"]]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "prepend_scheme": "never"}]},
        "decoder": {"type": "Metaspace", "prepend_scheme": "first"},
    }
    found = older_format(described)
    assert found["model"]["merges"] == ["a b", "ab c"]
    assert found["pre_tokenizer"]["pretokenizers"][0]["add_prefix_space"] is False
    assert found["decoder"]["add_prefix_space"] is True


def test_a_merge_of_spaces_stays_a_pair() -> None:
    described = {"model": {"merges": [["a", " b"]]}, "pre_tokenizer": None, "decoder": None}
    assert older_format(described)["model"]["merges"] == [["a", " b"]]


def test_tokens_beyond_the_rows_are_left_out_and_the_others_mean_the_same(tmp_path: Path) -> None:
    processor = tiny_processor("llama-2")
    rows = processor.image_token_id
    save_original_tokenizer(processor, tmp_path, rows=rows)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "<image>" not in (tmp_path / "tokenizer.json").read_text()
    assert (settings["bos_token"], settings["eos_token"], settings["model_max_length"]) == ("<s>", "</s>", 1024)
    assert settings["added_tokens_decoder"]["1"]["content"] == "<s>"
    found = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("USER: What colour is the car? ASSISTANT: Yellow.</s>", " lines\n"):
        assert found(text)["input_ids"] == processor.tokenizer(text)["input_ids"]
