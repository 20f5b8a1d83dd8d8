"""A tokenizer whose every word is one token, so that drawn lengths are the lengths that a model sees.

Comes in: how many rows the vocabulary has. Goes out: a byte-level BPE tokenizer as `transformers` saves it, and texts
of so many tokens. Made by construction, nothing is trained: syllables of a consonant and a vowel, words of two
syllables, the words of LLaVA's system prompt, and unused rows up to the size asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sightline.data.legacy_templates import VICUNA_SYSTEM

CONSONANTS = "BCDFGHJKLMPQVWXYZ"
"""Those that no upper-case word of the template needs: its merges must not cut our words."""
VOWELS = "AEIOU"
SPACE = "Ġ"
"""A space, as byte-level BPE writes it."""


def syllables() -> list[str]:
    """All of a consonant and a vowel."""
    return [first + second for first in CONSONANTS for second in VOWELS]


def words(count: int) -> list[str]:
    """So many words of two syllables; all of them at most."""
    return ["".join(pair) for pair in itertools.islice(itertools.product(syllables(), repeat=2), count)]


def number_of_words(rows: int) -> int:
    """Words that have room in a vocabulary: each takes two rows, with and without a space before it."""
    return min(len(CONSONANTS) ** 2 * len(VOWELS) ** 2, (rows - 1024) // 2)


def build_tokenizer(rows: int) -> PreTrainedTokenizerFast:
    """A tokenizer of exactly so many rows, `<image>` included."""
    pieces = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [*_spelled(), *_ours(number_of_words(rows))]
    pieces += dict.fromkeys(left + right for left, right in merges)
    unused = rows - 1 - len(pieces)
    assert unused >= 0, f"{rows} rows do not hold {len(pieces)} pieces"
    pieces += [f"<unused{number}>" for number in range(unused)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(dict.fromkeys(merges)), unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>", "<image>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def text(tokens: int, noise: np.random.Generator, vocabulary: list[str]) -> str:
    """So many words."""
    return " ".join(vocabulary[index] for index in noise.integers(0, len(vocabulary), tokens))


def _ours(count: int) -> Iterator[tuple[str, str]]:
    yield from itertools.product(CONSONANTS, VOWELS)
    chosen = words(count)
    yield from ((word[:2], word[2:]) for word in chosen)
    yield from ((SPACE, word) for word in chosen)


def _spelled() -> Iterator[tuple[str, str]]:
    """The template's words, put together from left to right."""
    for word in dict.fromkeys(f"{VICUNA_SYSTEM} USER: ASSISTANT:".replace(".", " ").replace(":", " ").split()):
        for spelled in (word, SPACE + word):
            yield from ((spelled[:cut], spelled[cut]) for cut in range(1, len(spelled)))
