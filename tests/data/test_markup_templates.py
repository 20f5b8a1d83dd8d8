"""The families' formats: the ids of their published chat templates, and a mask of answers and end markers alone."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.data.markup_templates import MARKUP, markup_template
from sightline.data.sample import ImageRef
from sightline.data.segments import ImageSegment, Segment, TextSegment, TokenSegment
from sightline.data.template import build_template
from sightline.data.tokens import SegmentEncoder
from sightline.errors import ConfigError
from tests.data.conversations import IMAGE, IMAGE_TOKENS, WORDS, made, sample_of, trained_text, turns_of
from tests.data.toy_tokenizers import FAMILIES, GEMMA, byte_level, family, gemma, without_template

FAMILY = {"qwen": "qwen2.5", "llama_3": "llama-3", "gemma": "gemma", "phi": "phi-3"}
"""Template -> the tokenizer with that family's published template."""

ENDS = {
    "chatml": "<|im_end|>", "qwen": "<|im_end|>", "mpt": "<|im_end|>", "llama_3": "<|eot_id|>",
    "gemma": "<end_of_turn>", "phi": "<|end|>",
}  # fmt: skip


def text(words: str, *, trained: bool = False) -> TextSegment:
    return TextSegment(text=words, trained=trained)


def token(name: str, *, trained: bool = False) -> TokenSegment:
    return TokenSegment(token=name, trained=trained)


def messages_of(*words: str, system: str | None = None) -> list[dict[str, Any]]:
    turns = [{"role": turn.role, "content": turn.content[0]} for turn in turns_of(*words)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


@pytest.mark.parametrize("name", FAMILY)
def test_ids_are_those_of_the_published_chat_template(name: str) -> None:
    template, encoder = made(name, FAMILY[name])
    tokenizer = family(FAMILY[name])
    padded = (" \n What is shown? ", " A car.\n", "Is it safe?", "No.") if name in ("llama_3", "gemma") else WORDS
    for words in (WORDS, padded):
        theirs = tokenizer.apply_chat_template(messages_of(*words, "What?"), tokenize=True)["input_ids"]
        ours = encoder.encode(template.render(sample_of(*words)), image_tokens=1).ids
        assert ours == theirs[: len(ours)]
        open_end = tokenizer.apply_chat_template(messages_of(*words, "Why?"), add_generation_prompt=True)["input_ids"]
        assert encoder.encode(template.prompt(turns_of(*words, "Why?")), image_tokens=1).ids == open_end


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "gemma"])  # it refuses a system turn
def test_a_system_text_stands_where_the_published_template_puts_it(name: str) -> None:
    template, encoder = made(name, FAMILY[name])
    talk = messages_of(*WORDS, "What?", system="You are a car.")
    theirs = family(FAMILY[name]).apply_chat_template(talk, tokenize=True)["input_ids"]
    ours = encoder.encode(template.render(sample_of(*WORDS, system="You are a car.")), image_tokens=1).ids
    assert ours == theirs[: len(ours)]


@pytest.mark.parametrize(("name", "tokenizer"), [*FAMILY.items(), ("chatml", "qwen3"), ("mpt", "qwen3")])
def test_answers_and_end_markers_are_trained_and_nothing_else(name: str, tokenizer: str) -> None:
    sample = sample_of((ImageRef(index=0), "\nWhat is shown?"), *WORDS[1:])
    assert trained_text(name, tokenizer, sample) == "".join(words + ENDS[name] for words in WORDS[1::2])


def test_chatml_writes_a_newline_after_each_turn_and_mpt_none() -> None:
    for name, gap in (("chatml", [text("\n")]), ("mpt", [])):
        template, _ = made(name, "qwen2.5")
        end: list[Segment] = [token("<|im_end|>"), *gap, token("<|im_start|>"), text("assistant\n")]
        after: list[Segment] = [token("<|im_end|>", trained=True), *gap, token("<|im_start|>"), text("user\nAnd?")]
        written = template.render(sample_of((ImageRef(index=0), "\nWhy?"), "So.", "And?", "No.", system="Hm."))
        assert written == [
            token("<|im_start|>"), text("system\nHm."), token("<|im_end|>"), *gap, token("<|im_start|>"),
            text("user\n"), ImageSegment(index=0), text("\nWhy?"), *end, text("So.", trained=True),
            *after, *end, text("No.", trained=True), token("<|im_end|>", trained=True),
        ]  # fmt: skip


def test_chatml_has_no_system_turn_of_its_own_and_qwen_has() -> None:
    assert made("chatml", "qwen3")[0].render(sample_of("Why?", "So."))[1] == text("user\nWhy?")
    assert made("qwen", "qwen3")[0].render(sample_of("Why?", "So."))[1] == text("system\nYou are a helpful assistant.")
    assert made("mpt", "qwen3")[0].render(sample_of("Why?", "So."))[1] == text(
        "system\nA conversation between a user and an LLM-based AI assistant. "
        "The assistant gives helpful and honest answers."
    )


@pytest.mark.parametrize("name", ["llama_3", "gemma"])
def test_bos_comes_first_and_once_whatever_the_tokenizer_does_by_itself(name: str) -> None:
    for adds in (True, False):
        tokenizer = gemma() if name == "gemma" else FAMILIES["llama-3"]()
        if not adds:
            tokenizer.backend_tokenizer.post_processor = None
        template = markup_template(name, tokenizer)
        encoder = SegmentEncoder(tokenizer, image_token_id=IMAGE)
        for system in (None, "Be brief."):
            segments = template.prompt(turns_of("Why?"), system=system)
            ids = encoder.encode(segments, image_tokens=IMAGE_TOKENS).ids
            assert ids[0] == tokenizer.bos_token_id
            assert ids.count(ids[0]) == 1


@pytest.mark.parametrize("name", [name for name in MARKUP if name != "mpt"])  # which writes them as words
def test_a_tokenizer_without_the_tokens_is_refused_with_the_first_that_is_missing(name: str) -> None:
    strangers = "llama-2" if name != "phi" else "qwen3"
    with pytest.raises(ConfigError, match=rf"template: {name} writes '<.*not have as a token of its own") as caught:
        build_template(name, family(strangers))
    assert "choose template: own or vicuna_v1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_chat_template_will_do() -> None:
    assert build_template("chatml", without_template()).stop == ("<|im_end|>",)


def test_a_piece_that_only_looks_like_the_token_is_refused() -> None:
    tokenizer = byte_level(special=["<start_of_turn>", "</s>"], plain=[], eos="</s>", template=GEMMA)
    with pytest.raises(ConfigError, match="'<end_of_turn>'"):
        build_template("gemma", tokenizer)
