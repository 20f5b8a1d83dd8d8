"""Which formats can express a model.

Comes in: the parts of a model, with or without weights, and its tokenizer. Goes out: for each format of
`sightline export`, why it cannot hold the model, or nothing. Reads configurations; opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sightline.exchange.gguf_vocabulary import tokenizer_obstacle
from sightline.exchange.original import ORIGINAL_TYPES
from sightline.model.connector import Connector, connector_depth
from sightline.model.layout import standard_obstacle
from sightline.model.vision import VisionEncoder

GGUF_LANGUAGES = ("llama", "mistral", "qwen2", "qwen3")
GGUF_TOWERS = ("clip_vision_model", "siglip_vision_model")
GGUF_ACTIVATIONS = {
    "quick_gelu": None, "gelu": "clip.use_gelu", "gelu_pytorch_tanh": "clip.use_gelu", "silu": "clip.use_silu",
}  # fmt: skip
"""A tower's `hidden_act` -> the key that asks llama.cpp for it; without one it takes quick_gelu (clip.cpp)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What decides over formats. `tokenizer` may be None where it is not known; weights are not looked at."""

    vision: VisionEncoder
    connector: str
    language: Any
    image_token_id: int = 0
    tokenizer: Any = None


def obstacle(format_name: str, parts: Parts) -> str | None:
    """Why `format_name`, a key of `FORMATS`, cannot express the model; None if it can."""
    return FORMATS[format_name](parts)


def possible_formats(parts: Parts) -> list[str]:
    """The formats that can express the model."""
    return [name for name in FORMATS if obstacle(name, parts) is None]


def obstacles_of_parts(parts: Mapping[str, nn.Module], tokenizer: Any) -> dict[str, str | None]:
    """For every format, why it cannot express what a recipe will train; None if it can.

    Args:
        parts: `vision`, `connector`, `language`, on the meta device.
        tokenizer: None where there is none to be had. Training gives `<image>` a row.
    """
    vision, connector = parts["vision"], parts["connector"]
    assert isinstance(vision, VisionEncoder)
    assert isinstance(connector, Connector)
    model = Parts(vision=vision, connector=connector.kind, language=parts["language"], tokenizer=tokenizer)
    return {name: obstacle(name, model) for name in FORMATS}


def rope_type(config: Any) -> str:
    """How a language model stretches its rotary embedding: transformers' `rope_type`."""
    found: str = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return found


def _hf(parts: Parts) -> str | None:
    return standard_obstacle(
        connector=parts.connector,
        select=parts.vision.select,
        prefix_tokens=parts.vision.num_prefix_tokens,
        language_type=parts.language.config.model_type,
        image_token_id=parts.image_token_id,
        rows=len(parts.language.get_input_embeddings().weight),
    )


def _llava(parts: Parts) -> str | None:
    """LLaVA with transformers 4.37: its multimodal_encoder/builder.py, its classes, their LlamaConfig."""
    config = parts.language.config
    if (tower := parts.vision.backbone.config.model_type) != "clip_vision_model":
        return f"the original LLaVA knows CLIP towers alone, this one is {tower}"
    if config.model_type not in ORIGINAL_TYPES:
        return f"the original LLaVA has classes for {' and '.join(ORIGINAL_TYPES)}, none for {config.model_type}"
    if (rope := rope_type(config)) not in ("default", "linear", "dynamic"):
        return f"the original LLaVA knows no rotary embedding of type {rope}"
    return _head_obstacle(config, "the original LLaVA")


def _projector(parts: Parts) -> str | None:
    """As stage 1 of the original leaves it, for a model that the original loads."""
    return _llava(parts) if connector_depth(parts.connector) else "connector identity has no weights"


def _gguf(parts: Parts) -> str | None:
    """llama.cpp: tools/mtmd/clip.cpp and models/llava.cpp for the tower, conversion/llama.py and qwen.py."""
    config, tower = parts.language.config, parts.vision.backbone.config
    if connector_depth(parts.connector) not in (1, 2):
        return f"llama.cpp's LLaVA projector has two linear layers, {parts.connector} is none of the kind"
    if tower.model_type not in GGUF_TOWERS or parts.vision.select != "patch":
        return f"llama.cpp reads the patches of {' and '.join(GGUF_TOWERS)}, not {parts.vision.select} of this tower"
    if tower.hidden_act not in GGUF_ACTIVATIONS:
        return f"llama.cpp's towers have no activation {tower.hidden_act}"
    if tower.hidden_size == tower.intermediate_size:
        return "llama.cpp tells a tower's two MLP matrices apart by their shapes, which are alike here"
    if config.model_type not in GGUF_LANGUAGES or config.hidden_act != "silu":
        return f"language models of type {config.model_type} are not written here, only {', '.join(GGUF_LANGUAGES)}"
    if (rope := rope_type(config)) not in ("default", "linear", "llama3"):
        return f"a rotary embedding of type {rope} is not written here"
    if getattr(config, "use_sliding_window", False) or (config.model_type == "qwen3" and config.attention_bias):
        return f"llama.cpp gives {config.model_type} no sliding window and no bias in its attention"
    return tokenizer_obstacle(parts.tokenizer) if parts.tokenizer is not None else None


def _mlx(parts: Parts) -> str | None:
    """mlx-vlm: models/llava/{llava,vision,language,config}.py."""
    config, tower = parts.language.config, parts.vision.backbone.config
    if parts.connector != "mlp2x_gelu":
        return f"mlx-vlm's projector is mlp2x_gelu, not {parts.connector}"
    if (tower.model_type, getattr(tower, "hidden_act", None)) != ("clip_vision_model", "quick_gelu"):
        return "mlx-vlm's LLaVA computes as CLIP's own towers do, with quick_gelu"
    if tower.layer_norm_eps != 1e-5:
        return f"mlx-vlm normalises with eps 1e-5, this tower with {tower.layer_norm_eps:g}"
    if config.model_type not in ("llama", "qwen2"):
        return f"mlx-vlm's LLaVA has llama and qwen2, not {config.model_type}"
    if getattr(config, "attention_bias", False):
        return "mlx-vlm's llama has no bias in its attention"
    if (rope := rope_type(config)) not in ("default", "linear"):
        return f"mlx-vlm's LLaVA knows no rotary embedding of type {rope}"
    return _head_obstacle(config, "mlx-vlm") or _hf(parts)


def _head_obstacle(config: Any, who: str) -> str | None:
    """What programs that know no `head_dim` and no bias in the MLP cannot do."""
    width = config.hidden_size // config.num_attention_heads
    if (getattr(config, "head_dim", None) or width) != width:
        return f"{who} divides the width by the heads ({width}), this model's heads are {config.head_dim} wide"
    return f"{who} knows no bias in the MLP" if getattr(config, "mlp_bias", False) else None


FORMATS: dict[str, Callable[[Parts], str | None]] = {
    "hf": _hf, "llava": _llava, "projector": _projector, "gguf": _gguf, "mlx": _mlx,
}  # fmt: skip
"""Format -> the function that says why it cannot express a model."""
