"""Text to ids such that no text can spell a special token.

Comes in: a fast `transformers` tokenizer. Goes out: `PlainText`, whose `encode` gives the same pieces as the tokenizer
for innocent text, and for `</s>`, `<|im_end|>` or `<image>` the pieces of those characters. It works on a copy of the
tokenizer in which the added tokens do not exist: nothing is searched for and escaped, so nothing can be missed.
Knows no segments and no templates.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, Self

from tokenizers import Tokenizer

from sightline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PrefixScheme = Literal["never", "first", "always"]
"""Where a tokenizer puts sentencepiece's dummy space: nowhere, at the start of a text, or after special tokens too.

The names are those of `tokenizers.pre_tokenizers.Metaspace`; `legacy: true` of the Llama family is "always".
"""

# Renames the vocabulary entries that text may not reach: no text has a NUL in it (`PlainText` refuses one that does).
_HIDDEN = "\0"

_CACHE_ENTRIES, _CACHE_CHARACTERS = 4096, 256  # headers and system sentences recur in every sample; long texts do not


class PlainText:
    """Encodes text with and without the dummy space at its start."""

    def __init__(self, *, prefixed: Tokenizer, bare: Tokenizer, scheme: PrefixScheme, markup: frozenset[int]) -> None:
        self.scheme: PrefixScheme = scheme
        self.markup = markup
        self._prefixed = prefixed
        self._bare = bare
        self._cache: dict[tuple[str, bool], list[int]] = {}

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Make the copies; `ConfigError` when the tokenizer is not a fast one."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ConfigError(
                f"tokenizer of type {type(tokenizer).__name__} has no fast form: use one with a tokenizer.json"
            )
        spec = json.loads(backend.to_str())
        markup = _markup_of(spec)
        _hide(spec, markup)
        scheme = prefix_scheme(spec)
        prefixed = bare = Tokenizer.from_str(json.dumps(spec))
        if scheme != "never":
            bare = Tokenizer.from_str(json.dumps(_without_prefix(spec)))
        return cls(prefixed=prefixed, bare=bare, scheme=scheme, markup=frozenset(markup.values()))

    def encode(self, text: str, *, prefixed: bool) -> list[int]:
        """Ids of `text` alone, no BOS or EOS. The list may be shared: read it, do not change it.

        Raises:
            DataError: `text_control`: the text holds a NUL.
        """
        if len(text) > _CACHE_CHARACTERS:
            return self._encode(text, prefixed)
        found = self._cache.get((text, prefixed))
        if found is None:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            found = self._cache[text, prefixed] = self._encode(text, prefixed)
        return found

    def can_spell(self, token_id: int) -> bool:
        """Whether some text may hold this id."""
        return token_id >= 0 and token_id not in self.markup and self._bare.id_to_token(token_id) is not None

    def _encode(self, text: str, prefixed: bool) -> list[int]:
        if _HIDDEN in text:
            raise DataError("a text holds a NUL character: remove it", reason="text_control")
        tokenizer = self._prefixed if prefixed else self._bare
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def is_markup(content: str, *, special: bool) -> bool:
    """Whether an added token stands for more than its characters.

    Runs of spaces (GPT-NeoX, OLMo), newlines (Gemma) and single letters (DeepSeek) are listed as added tokens and are
    ordinary text; everything else, "special" or not (`<think>`, `<tool_call>`), is the template's alone to write.
    """
    return special or (len(content) > 1 and bool(content.replace("▁", " ").strip()))


def _markup_of(spec: dict[str, Any]) -> dict[str, int]:
    """Contents and ids of the added tokens that text may not spell.

    A special token that is one letter of the vocabulary is spared: some checkpoints pad with "!", and without that
    letter a text could not be written any more.
    """
    vocab = spec["model"]["vocab"]
    letters = {piece for piece in (vocab if isinstance(vocab, dict) else dict(vocab)) if len(piece) == 1}
    return {
        token["content"]: token["id"]
        for token in spec["added_tokens"]
        if is_markup(token["content"], special=token["special"]) and token["content"] not in letters
    }


def prefix_scheme(spec: dict[str, Any]) -> PrefixScheme:
    """How a tokenizer.json adds the dummy space: as a normalizer, in Metaspace or in ByteLevel."""
    found: set[PrefixScheme] = set()
    for part in _parts(spec["normalizer"]) + _parts(spec["pre_tokenizer"]):
        if part["type"] == "Prepend" or (part["type"] == "ByteLevel" and part["add_prefix_space"]):
            found.add("always")
        elif part["type"] == "Metaspace":
            found.add(part["prepend_scheme"])
    return "always" if "always" in found else "first" if "first" in found else "never"


def _parts(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as the list of its steps."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    steps = component.get("normalizers") or component.get("pretokenizers") or []
    return [part for step in steps for part in _parts(step)]


def _without_prefix(spec: dict[str, Any]) -> dict[str, Any]:
    steps = [part for part in _parts(spec["normalizer"]) if part["type"] != "Prepend"]
    spec = spec | {"normalizer": {"type": "Sequence", "normalizers": steps} if steps else None}
    for part in _parts(spec["pre_tokenizer"]):
        if part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
        elif part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
    return spec


def _hide(spec: dict[str, Any], markup: dict[str, int]) -> None:
    """Take `markup` out of a tokenizer.json, and whatever else would alter a text: BOS, truncation, padding, dropout.

    An entry of the model's vocabulary is renamed rather than removed, since ids must not shift. Added tokens that are
    ordinary text stay; they move into the vocabulary, or `tokenizers` would number them anew.
    """
    model = spec["model"]
    spec |= {"truncation": None, "padding": None, "post_processor": None}
    ordinary = [token for token in spec["added_tokens"] if token["content"] not in markup]
    if isinstance(model["vocab"], dict):
        for content in markup.keys() & model["vocab"].keys():
            model["vocab"][_HIDDEN + content] = model["vocab"].pop(content)
        for token in ordinary:
            model["vocab"].setdefault(token["content"], token["id"])
    else:
        model["vocab"] = [[_HIDDEN + piece if piece in markup else piece, score] for piece, score in model["vocab"]]
    spec["added_tokens"] = ordinary if isinstance(model["vocab"], dict) else []
    if model.get("unk_token") in markup:
        model["unk_token"] = _HIDDEN + model["unk_token"]
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if markup.keys().isdisjoint((*pair, "".join(pair)))]
        model["dropout"] = None
