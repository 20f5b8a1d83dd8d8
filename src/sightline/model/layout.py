"""Our tensors and settings under the names of the standard Llava checkpoint.

Comes in: names, numbers and configurations. Goes out: names and the content of `config.json`. Pure functions; knows
nothing of files. The layout is that of the llava-hf repositories on the Hub, the one that every engine reads:
`vision_tower.*`, `multi_modal_projector.linear_{1,2}.*`, `language_model.model.*`, `language_model.lm_head.weight`.

A model that this layout cannot express is written under the same naming idea with `model_type: sightline`, so that
other software says it does not know the type instead of computing something else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import __version__

from sightline.model.connector import connector_depth

# Towers whose tensors carry `vision_model.` in the layout; transformers 5 dropped it in memory and reads both.
NESTED_TOWERS = frozenset({"clip_vision_model", "siglip_vision_model"})
# Text models that give the same logits inside transformers' Llava class as by themselves; each name here is tested.
# Others do more after the head than that class knows (Gemma2 caps its logits, Cohere scales them, Phi has a bias) or
# name their layers in another way (GPT-NeoX): they would load there without an error, and be wrong.
STANDARD_LANGUAGES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "olmo2", "smollm3", "starcoder2"}
)

# Every key that `standard_config` writes; a checkpoint's `config.json` with any other is refused.
CONFIG_KEYS = frozenset(
    {"architectures", "dtype", "image_seq_length", "image_token_index", "model_type", "multimodal_projector_bias"}
    | {"projector_hidden_act", "text_config", "tie_word_embeddings", "transformers_version", "vision_config"}
    | {"vision_feature_layer", "vision_feature_select_strategy"}
)


def tensor_name(name: str, *, vision_type: str) -> str:
    """The name in the file of our tensor `name`; `vision_type` is the encoder's model_type."""
    part, _, rest = name.partition(".")
    if part == "vision":
        prefix = "vision_tower.vision_model." if vision_type in NESTED_TOWERS else "vision_tower."
        return prefix + rest.removeprefix("backbone.")
    if part == "connector":
        index, _, kind = rest.partition(".")
        return f"multi_modal_projector.linear_{int(index) // 2 + 1}.{kind}"
    assert part == "language", name
    return f"language_model.{rest}"


def projector_fillers(connector: str, *, vision_width: int, language_width: int) -> dict[str, Tensor]:
    """What the standard projector (linear, activation, linear) has and connector `connector` lacks.

    With an identity activation and identity matrices the standard projector computes exactly what `linear` or
    `identity` compute. Nothing for `mlp2x_gelu`, which is the standard projector.
    """
    fillers = {}
    for index in range(connector_depth(connector) + 1, 3):
        width = vision_width if index == 1 else language_width
        fillers[f"multi_modal_projector.linear_{index}.weight"] = torch.eye(width)
        fillers[f"multi_modal_projector.linear_{index}.bias"] = torch.zeros(width)
    return fillers


def select_strategy(select: str, *, prefix_tokens: int) -> str | None:
    """Llava's `vision_feature_select_strategy`: "default" drops the first token, "full" none. None: neither fits."""
    if select == "cls_patch" or prefix_tokens == 0:
        return "full"
    return "default" if prefix_tokens == 1 else None


def standard_obstacle(
    *, connector: str, select: str, prefix_tokens: int, language_type: str, image_token_id: int, rows: int
) -> str | None:
    """Why the standard layout cannot express a model; None if it can.

    Args:
        prefix_tokens: tokens of the encoder before the patches.
        rows: of the language model's embedding matrix.
    """
    if connector_depth(connector) > 2:
        return f"the standard projector has two linear layers, {connector} has more"
    if select_strategy(select, prefix_tokens=prefix_tokens) is None:
        return f"the standard layout drops one token before the patches, this encoder has {prefix_tokens}"
    if language_type not in STANDARD_LANGUAGES:
        return f"language models of type {language_type} are not known to work inside transformers' Llava class"
    if image_token_id >= rows:
        return f"the image token {image_token_id} has no row in the vocabulary of {rows}"
    return None


def standard_config(
    *,
    obstacle: str | None,
    vision_config: dict[str, Any],
    text_config: dict[str, Any],
    connector: str,
    layer: int,
    select: str,
    prefix_tokens: int,
    image_token_id: int,
    tokens_per_image: int,
    dtype: str,
) -> dict[str, Any]:
    """The content of `config.json`: a LlavaConfig, or one of ours when there is an `obstacle`."""
    content = {
        "architectures": ["LlavaForConditionalGeneration"],
        "dtype": dtype,
        "image_seq_length": tokens_per_image,
        "image_token_index": image_token_id,
        "model_type": "llava",
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu" if connector_depth(connector) > 1 else "linear",
        "text_config": text_config,
        "tie_word_embeddings": text_config["tie_word_embeddings"],
        "transformers_version": __version__,
        "vision_config": vision_config,
        "vision_feature_layer": layer,
        "vision_feature_select_strategy": select_strategy(select, prefix_tokens=prefix_tokens),
    }
    if obstacle is not None:
        content |= {"architectures": ["SightlineForConditionalGeneration"], "model_type": "sightline"}
        content["vision_feature_select_strategy"] = select
    return content
