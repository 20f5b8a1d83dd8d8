"""A tokenizer in llama.cpp's words.

Comes in: a processor and the rows of the language model's vocabulary. Goes out: the `tokenizer.*` keys of a GGUF file.
Pure functions over the tokenizer's own description (`tokenizer.json`); knows no files.

llama.cpp has tokenizers of its own and is told which one to run: `llama` merges the neighbours whose joint piece has
the highest score, as sentencepiece does; `gpt2` cuts words by one of the expressions that it knows by name, and merges
letters in the listed order. A tokenizer that is neither would be read without an error and give other ids: it is
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.data.processor import Processor

Value = str | bool | int | float | list[str] | list[int] | list[float]


class TokenType(IntEnum):
    """gguf-py's constants.py."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|{numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# How a tokenizer cuts words -> llama.cpp's name for it (src/llama-vocab.cpp), and whether that one takes a whole word
# that is in the vocabulary without merging (`ignore_merges`).
_CUTS: dict[tuple[tuple[str, object], ...], tuple[str, bool]] = {
    (("ByteLevel", True),): ("gpt-2", False),
    (("Digits", True), ("ByteLevel", True)): ("smollm", False),
    (("Split", _WORDS.replace("{numbers}", r"\p{N}")), ("ByteLevel", False)): ("qwen2", False),
    (("Split", _WORDS.replace("{numbers}", r"\p{N}{1,3}")), ("ByteLevel", False)): ("llama-bpe", True),
}
_PADDING_SCORE = -10000.0
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def tokenizer_obstacle(tokenizer: Any) -> str | None:
    """Why llama.cpp cannot cut texts as `tokenizer` does; None if it can."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "the tokenizer has no tokenizer.json"
    described = json.loads(backend.to_str())
    model = described["model"]
    if model["type"] != "BPE":
        return f"the tokenizer is {model['type']}, only BPE is written here"
    if _is_sentencepiece(described):
        piece = unlisted_piece(model["vocab"], _merges(model))
        return None if piece is None else f"the tokenizer merges {piece!r} otherwise than sentencepiece would"
    if _cut(described) is None:
        return "llama.cpp has no name for the way in which this tokenizer cuts words"
    return None


def vocabulary(processor: Processor, *, rows: int, chat_template: str | None) -> dict[str, Value]:
    """The `tokenizer.*` keys.

    Args:
        rows: of the language model's embedding matrix; those that no token has are filled up as unused.
        chat_template: Jinja, if there is one.
    """
    tokenizer = processor.tokenizer
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    spm = _is_sentencepiece(described)
    texts, types = _tokens(described, rows=rows, unknown=tokenizer.unk_token_id if spm else None)
    keys: dict[str, Value] = {
        "tokenizer.ggml.model": "llama" if spm else "gpt2",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_bos_token": processor.adds_bos,
        "tokenizer.ggml.add_eos_token": False,
    }
    merges = _merges(described["model"])
    if spm:
        keys["tokenizer.ggml.pre"] = "default"
        keys["tokenizer.ggml.scores"] = piece_scores(described["model"]["vocab"], merges, rows=rows)
        keys["tokenizer.ggml.add_space_prefix"] = _adds_space(described)
    else:
        cut = _cut(described)
        assert cut is not None
        keys["tokenizer.ggml.pre"] = cut
        keys["tokenizer.ggml.merges"] = [" ".join(pair) for pair in merges]
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template
    return keys | _special_ids(processor, unknown=spm)


def piece_scores(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], *, rows: int) -> list[float]:
    """Sentencepiece's scores from the order of merges: 0, -1, -2, ... for the pieces as their merges come.

    Pieces whose merges come mixed had the same score, as LLaMA's runs of spaces have, and get the same again. A piece
    that no merge makes is never chosen by its score; it gets 0, as sentencepiece gives its bytes.
    """
    last = {left + right: place for place, (left, right) in enumerate(merges)}
    order: dict[str, float] = {}
    score, end = 1.0, -1
    for place, (left, right) in enumerate(merges):
        if place > end:  # everything before is done: a piece of its own, or the first of a mixture
            score -= 1
        end = max(end, last[left + right])
        order[left + right] = score
    scores = [_PADDING_SCORE] * rows
    for text, index in vocab.items():
        if index < rows:
            scores[index] = order.get(text, 0.0)
    return scores


def unlisted_piece(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> str | None:
    """The first piece that two others make up though no merge says so; None if there is none.

    A list of merges made from sentencepiece's scores has every way to put a piece together. Only then does choosing the
    piece (sentencepiece, llama.cpp) give the same as choosing the pair (tokenizers).
    """
    listed = set(merges)
    for piece in {left + right: None for left, right in merges}:
        halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        if any(left in vocab and right in vocab and (left, right) not in listed for left, right in halves):
            return piece
    return None


def _is_sentencepiece(described: Mapping[str, Any]) -> bool:
    return bool(described["model"].get("byte_fallback"))


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs, whichever of its two ways `tokenizer.json` writes them in."""
    found = []
    for merge in model.get("merges") or []:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        found.append((left, right))
    return found


def _cut(described: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the way in which words are cut; None if it has none."""
    steps = tuple(_step(part) for part in _flat(described.get("pre_tokenizer")))
    name, ignores_merges = _CUTS.get(steps, (None, False))
    return name if ignores_merges == bool(described["model"].get("ignore_merges")) else None


def _flat(part: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    if part is None:
        return ()
    inner: Iterable[Mapping[str, Any]] = part["pretokenizers"] if part["type"] == "Sequence" else (part,)
    return inner


def _step(part: Mapping[str, Any]) -> tuple[str, object]:
    """One step of cutting words, as a key of `_CUTS`; something that is no key where a setting is unusual."""
    kind = part["type"]
    if kind == "ByteLevel" and not part.get("add_prefix_space"):
        return kind, bool(part.get("use_regex", True))
    if kind == "Digits":
        return kind, bool(part.get("individual_digits"))
    if kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        return kind, part["pattern"].get("Regex")
    return kind, None


def _adds_space(described: Mapping[str, Any]) -> bool:
    """Whether a text gets sentencepiece's dummy space: by the normalizer (`legacy`) or by `Metaspace`."""
    normalizer = described.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    if any(part.get("type") == "Prepend" for part in parts):
        return True
    return any(
        part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never"
        for part in _flat(described.get("pre_tokenizer"))
    )


def _tokens(described: Mapping[str, Any], *, rows: int, unknown: int | None) -> tuple[list[str], list[int]]:
    """The text and the type of every row.

    A piece of several letters that no merge makes never comes out of our tokenizer, but would out of llama.cpp's, which
    looks only whether the vocabulary has it: its row gets another name.
    """
    texts = [f"[PAD{row}]" for row in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    spm = _is_sentencepiece(described)
    made = {left + right for left, right in _merges(described["model"])}
    for text, index in described["model"]["vocab"].items():
        is_byte = spm and _BYTE.fullmatch(text) is not None
        if index < rows and (not spm or is_byte or len(text) == 1 or text in made):
            texts[index], types[index] = text, int(TokenType.BYTE if is_byte else TokenType.NORMAL)
    for token in described.get("added_tokens", []):
        if token["id"] < rows:
            kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
            texts[token["id"]], types[token["id"]] = token["content"], int(kind)
    if unknown is not None:
        types[unknown] = int(TokenType.UNKNOWN)
    return texts, types


def _special_ids(processor: Processor, *, unknown: bool) -> dict[str, Value]:
    """The ids of special tokens. What ends an answer of the template and is not EOS is written as end of turn."""
    tokenizer = processor.tokenizer
    ids = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "padding": tokenizer.pad_token_id,
        "unknown": tokenizer.unk_token_id if unknown else None,
        "eot": min(processor.stop_ids - {tokenizer.eos_token_id}, default=None),
    }
    return {f"tokenizer.ggml.{name}_token_id": int(found) for name, found in ids.items() if found is not None}
