"""Vision tower and connector in llama.cpp's words, both ways: the `mmproj` file.

Comes in: a `VisionEncoder`, the name of a connector, tensors by the names of our files. Goes out: keys and tensors of a
GGUF file; and from such a file a tower's configuration and tensors again. Knows nothing of text.

The names are those of llama.cpp's tools/mtmd/clip-impl.h, what is computed with them that of models/llava.cpp: only the
layers up to the tapped one are written, and `feature_layer` says that all of them run (without it llama.cpp leaves out
the last one that is in the file).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from sightline.exchange.formats import GGUF_ACTIVATIONS
from sightline.exchange.gguf_vocabulary import Value
from sightline.model.connector import connector_depth
from sightline.model.vision import VisionEncoder, layers_to_run

PATCHES = "v.patch_embd.weight"
POSITIONS = "v.position_embd.weight"

_TOP = {
    "embeddings.class_embedding": "v.class_embd",
    "embeddings.patch_embedding.weight": PATCHES,
    "embeddings.patch_embedding.bias": "v.patch_embd.bias",
    "embeddings.position_embedding.weight": POSITIONS,
    "pre_layrnorm.weight": "v.pre_ln.weight",  # transformers' spelling
    "pre_layrnorm.bias": "v.pre_ln.bias",
}
_BLOCK = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
_TOP_BACK = {theirs: ours for ours, theirs in _TOP.items()}
_BLOCK_BACK = {theirs: ours for ours, theirs in _BLOCK.items()}
_PREFIX = "vision_tower.vision_model."
_CONNECTOR = "multi_modal_projector.linear_"


def tower_keys(
    vision: VisionEncoder, *, language_width: int, mean: Iterable[float], std: Iterable[float]
) -> dict[str, Value]:
    """The hyperparameters of a tower of `formats.GGUF_TOWERS`."""
    config = vision.backbone.config
    run = layers_to_run(vision.layer, depth=config.num_hidden_layers)
    keys: dict[str, Value] = {
        "clip.has_text_encoder": False,  # this and the next but one: for llama.cpp before June 2025
        "clip.has_vision_encoder": True,
        "clip.has_llava_projector": True,
        "clip.projector_type": "mlp",
        "clip.vision.image_size": vision.image_size,
        "clip.vision.patch_size": vision.patch_size,
        "clip.vision.embedding_length": config.hidden_size,
        "clip.vision.feed_forward_length": config.intermediate_size,
        "clip.vision.projection_dim": language_width,
        "clip.vision.block_count": run,
        "clip.vision.attention.head_count": config.num_attention_heads,
        "clip.vision.attention.layer_norm_epsilon": float(config.layer_norm_eps),
        "clip.vision.feature_layer": [run],
        "clip.vision.image_mean": [float(channel) for channel in mean],
        "clip.vision.image_std": [float(channel) for channel in std],
        "clip.vision.mm_patch_merge_type": "flat",
    }
    activation = GGUF_ACTIVATIONS[config.hidden_act]
    return keys if activation is None else keys | {activation: True}


def tower_config(keys: Mapping[str, Any], *, names: Iterable[str]) -> tuple[Any, int]:
    """The tower that a file with tensors `names` describes, and its tapped layer.

    It gets one more layer, empty, as the tower that was written has one in most cases: none of them is ever run.
    """
    names = set(names)
    own = {key.removeprefix("clip.vision."): value for key, value in keys.items()}
    (run,) = own["feature_layer"]
    activation = next((act for act, key in GGUF_ACTIVATIONS.items() if key is not None and keys.get(key)), "quick_gelu")
    is_clip = "v.class_embd" in names
    config = AutoConfig.for_model(
        "clip_vision_model" if is_clip else "siglip_vision_model",
        image_size=own["image_size"],
        patch_size=own["patch_size"],
        hidden_size=own["embedding_length"],
        intermediate_size=own["feed_forward_length"],
        num_hidden_layers=run + 1,
        num_attention_heads=own["attention.head_count"],
        layer_norm_eps=own["attention.layer_norm_epsilon"],
        hidden_act=activation if is_clip or activation != "gelu" else "gelu_pytorch_tanh",
    )
    return config, run


def tower_tensors(
    tensors: Iterable[tuple[str, Tensor]], vision: VisionEncoder, connector: str
) -> Iterator[tuple[str, Tensor]]:
    """The GGUF names and contents of those of our tensors that the file holds."""
    run = layers_to_run(vision.layer, depth=vision.backbone.config.num_hidden_layers)
    projector: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name.startswith(_CONNECTOR):
            projector[name] = tensor
        elif (theirs := _tower_name(name, vision, run=run)) is not None:
            yield theirs, tensor
    yield from _projector(projector, connector)


def our_tower_tensor(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """The inverse of `tower_tensors` for the tower's own."""
    if name in _TOP_BACK:
        return _PREFIX + _TOP_BACK[name], tensor
    _, _, block, inner, kind = name.split(".")
    return f"{_PREFIX}encoder.layers.{block}.{_BLOCK_BACK[inner]}.{kind}", tensor


def our_projector(tensors: Mapping[str, Tensor], connector: str) -> dict[str, Tensor]:
    """The inverse of `tower_tensors` for the connector: by our names."""
    if connector_depth(connector) == 2:
        return {f"{_CONNECTOR}{i + 1}.{kind}": tensors[f"mm.{2 * i}.{kind}"]
                for i in range(2) for kind in ("weight", "bias")}  # fmt: skip
    width = tensors["mm.2.bias"].shape[0]
    return {f"{_CONNECTOR}1.{kind}": tensors[f"mm.0.{kind}"][:width] for kind in ("weight", "bias")}


def through_gelu(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """A linear layer as llama.cpp's projector, which always has a GELU between two linear layers.

    GELU(x) - GELU(-x) = x for every x, whether computed by the error function or its approximation by tanh: both are
    x times a function that is 1/2 plus an odd one. So [W; -W], GELU, [I, -I] computes W.
    """
    width = weight.shape[0]
    one = torch.eye(width, dtype=weight.dtype)
    return {
        "mm.0.weight": torch.cat([weight, -weight]),
        "mm.0.bias": torch.cat([bias, -bias]),
        "mm.2.weight": torch.cat([one, -one], dim=1),
        "mm.2.bias": torch.zeros(width, dtype=bias.dtype),
    }


def _tower_name(name: str, vision: VisionEncoder, *, run: int) -> str | None:
    """GGUF's name for a tensor of the tower; None for what the features do not depend on, and for other parts."""
    inner = name.removeprefix(_PREFIX)
    if inner == name or inner not in vision.used_parameters:
        return None
    if inner in _TOP:
        return _TOP[inner]
    block, _, rest = inner.removeprefix("encoder.layers.").partition(".")
    assert int(block) < run, inner
    stem, _, kind = rest.rpartition(".")
    return f"v.blk.{block}.{_BLOCK[stem]}.{kind}"


def _projector(tensors: Mapping[str, Tensor], connector: str) -> Iterator[tuple[str, Tensor]]:
    if connector_depth(connector) == 2:
        for name, tensor in tensors.items():
            index, _, kind = name.removeprefix(_CONNECTOR).partition(".")
            yield f"mm.{2 * (int(index) - 1)}.{kind}", tensor
        return
    yield from through_gelu(tensors[f"{_CONNECTOR}1.weight"], tensors[f"{_CONNECTOR}1.bias"]).items()
