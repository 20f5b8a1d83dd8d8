"""What one token adds to a text, to the byte.

Comes in: a tokenizer, a token. Goes out: the token's bytes, whole characters or not, with the space that it begins
with. Those of an answer's tokens, one after the other, are the answer in UTF-8, with the spaces at its ends that are
not shown. Does not know models.
"""

from __future__ import annotations

import re
from typing import Any

from sightline.infer.words import UNFINISHED

ONE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How sentencepiece writes a byte that belongs to a character which has no token (its option `byte_fallback`)."""


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: those that can be seen stand for themselves, the others for what follows U+00FF.

    As openai/gpt-2 has them: src/encoder.py, bytes_to_unicode.
    """
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(unseen)}


BYTE_LETTERS = _byte_letters()


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes of a token; of a special one, those of its name."""
    name = tokenizer.convert_ids_to_tokens(token) or ""  # a model may have more rows than the tokenizer has tokens
    if found := ONE_BYTE.fullmatch(name):
        return bytes([int(found[1], 16)])
    alone, twice = (tokenizer.decode([token] * count, clean_up_tokenization_spaces=False) for count in (1, 2))
    if UNFINISHED in alone and BYTE_LETTERS.keys() >= set(name):
        return bytes(BYTE_LETTERS[letter] for letter in name)
    behind: str = twice.removeprefix(alone)  # behind itself: some tokenizers drop the space that a text begins with
    return behind.encode()
