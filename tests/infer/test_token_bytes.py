"""The bytes of single tokens: together they are the text, whatever tokenizer it is and wherever characters are cut."""

from __future__ import annotations

import pytest

from sightline.infer.token_bytes import BYTE_LETTERS, token_bytes
from tests.data.toy_tokenizers import FAMILIES, family
from tests.infer.test_words import TEXTS

BYTE_LEVEL = ("qwen2.5", "llama-3")
MORE = ("<0x41> is no byte", "\N{REPLACEMENT CHARACTER} as such, é ñ Ġ", "\n\n- a\n", "한국어 हिन्दी 👩‍👩‍👧‍👦")


@pytest.mark.parametrize("text", [*TEXTS, *MORE])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_bytes_of_the_tokens_are_those_of_the_text(name: str, text: str) -> None:
    """Behind other words, where no tokenizer drops the space that it begins with."""
    tokenizer = family(name)
    begun = "It is"
    start = tokenizer(begun, add_special_tokens=False)["input_ids"]
    ids = tokenizer(f"{begun} {text}", add_special_tokens=False)["input_ids"]
    whole, first = (b"".join(token_bytes(tokenizer, token) for token in each) for each in (ids, start))
    assert whole.lstrip().decode() == tokenizer.decode(ids)
    assert whole[len(first) :].startswith(b" ")


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_every_byte_has_its_letter(name: str) -> None:
    tokenizer = family(name)
    for letter, byte in BYTE_LETTERS.items():
        assert token_bytes(tokenizer, tokenizer.convert_tokens_to_ids(letter)) == bytes([byte])
    assert sorted(BYTE_LETTERS.values()) == list(range(256))


@pytest.mark.parametrize("name", ["llama-2", "gemma"])
def test_every_byte_has_its_token_with_sentencepiece(name: str) -> None:
    tokenizer = family(name)
    for byte in range(256):
        assert token_bytes(tokenizer, tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>")) == bytes([byte])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_special_token_is_its_name_and_what_is_no_token_is_nothing(name: str) -> None:
    tokenizer = family(name)
    assert token_bytes(tokenizer, tokenizer.eos_token_id) == tokenizer.eos_token.encode()
    assert token_bytes(tokenizer, len(tokenizer) + 5) == b""
