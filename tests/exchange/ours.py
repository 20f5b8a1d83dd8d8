"""Tiny checkpoints of ours, of every kind that exports tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from sightline.model.weights import read_headers, read_tensors
from tests.fakes import tiny_backbone, tiny_language
from tests.tiny_checkpoint import save_assistant, tiny_processor

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def save_ours(
    directory: Path,
    *,
    family: str = "llama-2",
    language: str = "llama",
    vision: str = "clip",
    connector: str = "mlp2x_gelu",
    layer: int = -2,
    vision_options: Mapping[str, Any] | None = None,
    processor_options: Mapping[str, Any] | None = None,
    **language_options: Any,
) -> Path:
    """A whole checkpoint with random weights, its tokenizer of `family`."""
    encoder = VisionEncoder(tiny_backbone(vision, **(vision_options or {})), layer=layer)
    processor = tiny_processor(
        family,
        num_prefix_tokens=encoder.num_prefix_tokens,
        image_tokens=encoder.tokens_per_image,
        **(processor_options or {}),
    )
    text = tiny_language(language, vocab_size=len(processor.tokenizer), **language_options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        bridge = build_connector(connector, vision_width=encoder.width, language_width=32)
    model = VisionLanguageModel(encoder, bridge, text, image_token_id=processor.image_token_id).eval()
    return save_assistant(directory, model, processor)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a directory's safetensors files."""
    return dict(read_tensors(directory, read_headers(directory)))


def same_weights(one: Path, other: Path) -> bool:
    """Names, types, shapes and every bit."""
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(
        mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine
    )
