"""The words of a growing answer: pieces are whole characters, make up the answer, and cost little each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from sightline.infer.words import MOST_PENDING, AnswerText, StopRule
from tests.data.toy_tokenizers import FAMILIES, family

TEXTS = [
    "It is a yellow car.",
    "naïve café, 日本語 and 😀👩‍🚀: done",
    "日本語の文章、漢字だけ",
    "two  spaces,   three\n\nlines\n- item",
    "  spaces around  ",
    "👩‍🚀",
    "a",
    "",
]


def letters(ids: Sequence[int]) -> str:
    """Stands in for a tokenizer: id 65 is "A"."""
    return "".join(map(chr, ids))


def pieces_of(rule: StopRule, ids: Sequence[int]) -> list[str]:
    """What is shown token by token until the answer is over, then the rest."""
    words = AnswerText(rule)
    found = []
    for token in ids:
        found.append(words.push(token))
        if words.over:
            break
    return [*found, words.finish()]


def rule_of(name: str, texts: tuple[str, ...] = ()) -> StopRule:
    """As a processor has it."""
    tokenizer = family(name)

    def decode(ids: Sequence[int]) -> str:
        assert len(ids) <= 2 * MOST_PENDING, "the whole answer was decoded again"
        text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    return StopRule(ids=frozenset({tokenizer.eos_token_id}), texts=texts, decode=decode)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_pieces_make_up_the_answer_of_every_tokenizer(name: str, text: str) -> None:
    tokenizer = family(name)
    ids = tokenizer(text * 4, add_special_tokens=False)["input_ids"]
    pieces = pieces_of(rule_of(name), [*ids, tokenizer.eos_token_id])
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("name", ["qwen2.5", "llama-2", "gemma"])
def test_special_tokens_inside_an_answer_leave_no_trace(name: str) -> None:
    tokenizer = family(name)
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("It is", " a car"))
    special = next(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    rule = StopRule(ids=frozenset(), decode=rule_of(name).decode)
    ids = [special, *first, special, special, *second, special]
    assert "".join(pieces_of(rule, ids)) == tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["qwen2.5", "llama-2"])
def test_tokens_at_random_are_shown_in_bounded_work(name: str) -> None:
    """Bytes that never make a character are shown as such after a while; `rule_of` fails where the tail grows."""
    tokenizer = family(name)
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(3, len(tokenizer), (400,), generator=noise).tolist()
    bytes_alone = [token for token in ids if token < 256 + 3] * 4
    for answer in (ids, bytes_alone):
        pieces = pieces_of(rule_of(name), [token for token in answer if token != tokenizer.eos_token_id])
        assert all(len("".join(pieces[start : start + 2 * MOST_PENDING])) for start in range(0, 300, 2 * MOST_PENDING))


@pytest.mark.parametrize(
    ("answer", "over", "text"),
    [
        ("A cat", False, "A cat"),
        ("A cat\n", True, "A cat"),
        ("A cat\nand a dog", True, "A cat"),
        ("A cat#", True, "A cat"),
        (" A cat ", False, "A cat"),
        (" A  cat ", False, "A  cat"),
        ("\n", True, ""),
        ("#", True, ""),
        ("", False, ""),
    ],
)
def test_what_ends_an_answer_is_trimmed(answer: str, over: bool, text: str) -> None:
    rule = StopRule(ids=frozenset({ord("#")}), texts=("\n",), decode=letters)
    ids = [ord(letter) for letter in answer]
    words = AnswerText(rule)
    shown = "".join(words.push(token) for token in ids if not words.over)
    assert words.over is over
    assert shown + words.finish() == text
    assert rule.text(ids) == text


@pytest.mark.parametrize(
    ("answer", "shown", "over"),
    [
        ("A cat", "A cat", False),
        ("A cat\n", "A cat", False),
        ("A cat\n#", "A cat", False),
        ("A cat\n##", "A cat", False),
        ("A cat\n###", "A cat", True),
        ("#1", "#1", False),
        ("C# it is", "C# it is", False),
        ("a <|im_e", "a", False),
        ("a <b", "a <b", False),
        ("", "", False),
    ],
)
def test_an_end_that_may_become_a_stop_text_is_held_back(answer: str, shown: str, over: bool) -> None:
    words = AnswerText(StopRule(ids=frozenset(), texts=("###", "<|im_end|>"), decode=letters))
    assert "".join(words.push(ord(letter)) for letter in answer) == shown
    assert words.over is over


def test_what_was_held_back_is_shown_when_the_answer_ends_otherwise() -> None:
    words = AnswerText(StopRule(ids=frozenset(), texts=("###",), decode=letters))
    assert "".join(words.push(ord(letter)) for letter in "A ##") == "A"
    assert words.finish() == " ##"
