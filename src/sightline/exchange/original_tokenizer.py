"""A tokenizer's files as the software of the original LLaVA's time reads them (transformers 4.37, tokenizers 0.15).

Comes in: a processor of ours. Goes out: `tokenizer.json` and its settings, without `<image>`, which the original keeps
out of its vocabulary. Knows no weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.data.processor import IMAGE_TOKEN, Processor


def save_original_tokenizer(processor: Processor, directory: Path, *, rows: int) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`.

    Args:
        rows: of the vocabulary that is written; tokens beyond it are left out.
    """
    tokenizer = processor.tokenizer
    described = older_format(json.loads(tokenizer.backend_tokenizer.to_str()))
    described["added_tokens"] = [token for token in described["added_tokens"] if token["id"] < rows]
    names = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    special = {name: token for name, token in names.items() if token != IMAGE_TOKEN}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": processor.settings.max_length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(token.pop("id")): token for token in _copies(described["added_tokens"])},
        **special,
    }
    if isinstance(tokenizer.chat_template, str):
        settings["chat_template"] = tokenizer.chat_template
    for name, content in (
        ("tokenizer.json", described), ("tokenizer_config.json", settings), ("special_tokens_map.json", special),
    ):  # fmt: skip
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (directory / name).write_text(text, encoding="utf-8")


def older_format(described: dict[str, Any]) -> dict[str, Any]:
    """A `tokenizer.json` that tokenizers 0.15 reads: merges as text, Metaspace with the setting it then required."""
    model = dict(described["model"])
    merges = model.get("merges")
    if merges and not any(" " in part for merge in merges if not isinstance(merge, str) for part in merge):
        model["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    changed = {part: _with_prefix_space(described.get(part)) for part in ("pre_tokenizer", "decoder")}
    return described | changed | {"model": model}


def _with_prefix_space(part: Any) -> Any:
    """`Metaspace` anywhere inside with its `add_prefix_space`, which newer versions derive from `prepend_scheme`."""
    if isinstance(part, list):
        return [_with_prefix_space(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    changed = {key: _with_prefix_space(value) for key, value in part.items()}
    if part.get("type") == "Metaspace":
        changed.setdefault("add_prefix_space", part.get("prepend_scheme", "always") != "never")
    return changed


def _copies(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [dict(token) for token in tokens]
