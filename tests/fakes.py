"""Tiny models of the real families: width at most 64, two or three layers, random but fixed weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel

IMAGE_SIZE = 32
PATCH_SIZE = 8
PATCHES = 16
VOCABULARY = 96
IMAGE_TOKEN = 90

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
}
_LANGUAGE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION_FAMILIES: dict[str, dict[str, Any]] = {
    "clip": {"model_type": "clip_vision_model"},
    "siglip": {"model_type": "siglip_vision_model"},
    "dinov2": {"model_type": "dinov2", "mlp_ratio": 2},
    "dinov2_registers": {"model_type": "dinov2_with_registers", "mlp_ratio": 2, "num_register_tokens": 3},
    "dinov3": {"model_type": "dinov3_vit", "num_register_tokens": 2},
    "vit": {"model_type": "vit"},
}
LANGUAGE_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "llama_tied": {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "phi3": {"model_type": "phi3"},
    "gemma": {"model_type": "gemma", "head_dim": 8},
    "gemma2": {"model_type": "gemma2", "head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": 64},
    "olmo2": {"model_type": "olmo2"},
    "smollm3": {"model_type": "smollm3"},
    "starcoder2": {"model_type": "starcoder2"},
}


def vision_config(family: str, **options: Any) -> dict[str, Any]:
    """What a `config.json` of this family would hold."""
    known = {key: value for key, value in _VISION.items() if key != "intermediate_size" or "dinov2" not in family}
    return {**known, **VISION_FAMILIES[family], **options}


def language_config(family: str, **options: Any) -> dict[str, Any]:
    """What a `config.json` of this family would hold."""
    return {**_LANGUAGE, **LANGUAGE_FAMILIES[family], **options}


def _fixed(make: Callable[[], Any], *, seed: int) -> Any:
    """Make a module whose weights depend on the seed alone, each of them moved away from the usual start.

    The zeros and ones of a fresh model would hide tensors that are swapped or forgotten.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = make()
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def tiny_backbone(family: str, *, seed: int = 0, **options: Any) -> Any:
    """A transformers image encoder, 32 px, patches of 8 px, 3 layers, width 32."""
    config = AutoConfig.for_model(**vision_config(family, **options))
    return _fixed(lambda: AutoModel.from_config(config), seed=seed)


def tiny_language(family: str, *, seed: int = 1, **options: Any) -> Any:
    """A causal language model with 96 rows, 2 layers, width 32."""
    config = AutoConfig.for_model(**language_config(family, **options))
    return _fixed(lambda: AutoModelForCausalLM.from_config(config), seed=seed)


def tiny_model(
    vision: str = "clip",
    language: str = "llama",
    *,
    connector: str = "mlp2x_gelu",
    layer: int = -2,
    select: str = "patch",
    image_token_id: int = IMAGE_TOKEN,
    seed: int = 0,
) -> VisionLanguageModel:
    """A whole model in evaluation mode."""
    encoder = VisionEncoder(tiny_backbone(vision, seed=seed), layer=layer, select=select)
    bridge = _fixed(lambda: build_connector(connector, vision_width=encoder.width, language_width=32), seed=seed + 2)
    text = tiny_language(language, seed=seed + 1)
    return VisionLanguageModel(encoder, bridge, text, image_token_id=image_token_id).eval()


def tiny_pixels(count: int, *, seed: int = 3) -> torch.Tensor:
    """float32[count, 3, 32, 32]"""
    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(seed))


def tiny_prompt(model: VisionLanguageModel, *, images: int = 1) -> torch.Tensor:
    """int64[1, T]: some text, the placeholders of each image, some text."""
    picture = [*[model.image_token_id] * model.vision.tokens_per_image, 7, 8]
    return torch.tensor([[1, 5, 6, *picture * images, 9, 10]])


def flat_gradient(model: nn.Module) -> Tensor:
    """All gradients of a model in one row; parameters without one are left out."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def distance(found: Tensor, expected: Tensor) -> float:
    """Of two tensors, relative to the second."""
    return float((found - expected).norm() / expected.norm())


def hashes(module: nn.Module, *, trained: bool) -> dict[str, str]:
    """SHA-256 of each parameter (or buffer) that trains, or that does not."""
    wanted = {name for name, parameter in module.named_parameters() if parameter.requires_grad == trained}
    buffers = set() if trained else {name for name, _ in module.named_buffers()}
    return {
        name: hashlib.sha256(value.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, value in module.state_dict().items()
        if name in wanted | buffers
    }
