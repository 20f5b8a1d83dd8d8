"""A language model in llama.cpp's words, both ways.

Comes in: a transformers configuration and tensors by the names of our files. Goes out: keys and tensors of a GGUF file;
and from such a file a configuration and tensors again. Knows nothing of pictures or tokenizers.

llama.cpp's `llama` architecture turns pairs of neighbours in its rotary embedding, transformers the two halves of a
head: the rows of the query and key matrices are interleaved. `qwen2` and `qwen3` turn halves, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from sightline.exchange.formats import rope_type
from sightline.exchange.gguf_vocabulary import Value

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""A language model's type -> llama.cpp's architecture (its conversion/llama.py and qwen.py)."""
ROPE_FACTORS = "rope_freqs.weight"
"""By what llama.cpp divides the rotary frequencies: how it is told of Llama 3's."""

_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""transformers' names -> GGUF's (gguf-py's tensor_mapping.py), for the architectures above."""
_BLOCK_BACK = {theirs: ours for ours, theirs in _BLOCK.items()}


def language_keys(config: Any, *, rows: int) -> dict[str, Value]:
    """The hyperparameters of a language model."""
    architecture = ARCHITECTURES[config.model_type]
    rope = config.rope_parameters
    head = head_width(config)
    context = config.max_position_embeddings
    if config.model_type == "mistral" and config.sliding_window:  # llama.cpp attends to everything: alike up to here
        context = min(context, config.sliding_window)
    keys: dict[str, Value] = {
        "vocab_size": rows,
        "context_length": context,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head,
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if rope_type(config) == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def language_config(keys: Mapping[str, Any], *, tied: bool, biases: Iterable[str]) -> Any:
    """The configuration that a file describes, without Llama 3's rotary factors, which are a tensor.

    Args:
        tied: whether the file has no output matrix.
        biases: names of the file's tensors that are biases.
    """
    architecture = keys["general.architecture"]
    own = {key.removeprefix(f"{architecture}."): value for key, value in keys.items()}
    rope = {"rope_type": own.get("rope.scaling.type", "default"), "rope_theta": own["rope.freq_base"]}
    if "rope.scaling.factor" in own:
        rope["factor"] = own["rope.scaling.factor"]
    biased = {name.split(".")[2] for name in biases}
    options = {"attention_bias": "attn_output" in biased or "attn_q" in biased, "mlp_bias": "ffn_up" in biased}
    return AutoConfig.for_model(
        architecture,
        vocab_size=own["vocab_size"],
        max_position_embeddings=own["context_length"],
        hidden_size=own["embedding_length"],
        num_hidden_layers=own["block_count"],
        intermediate_size=own["feed_forward_length"],
        num_attention_heads=own["attention.head_count"],
        num_key_value_heads=own["attention.head_count_kv"],
        head_dim=own["attention.key_length"],
        rms_norm_eps=own["attention.layer_norm_rms_epsilon"],
        rope_parameters=rope,
        tie_word_embeddings=tied,
        **(options if architecture == "llama" else {}),
    )


def language_tensor(name: str, tensor: Tensor, config: Any) -> tuple[str, Tensor]:
    """The GGUF name and content of a tensor of ours, whose name begins with `language_model.`."""
    stem, _, kind = name.removeprefix("language_model.").rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}", tensor
    block, _, inner = stem.removeprefix("model.layers.").partition(".")
    heads = _permuted_heads(_BLOCK[inner], config)
    return f"blk.{block}.{_BLOCK[inner]}.{kind}", tensor if heads is None else interleave(tensor, heads)


def our_language_tensor(name: str, tensor: Tensor, config: Any) -> tuple[str, Tensor]:
    """The inverse of `language_tensor`."""
    stem, _, kind = name.rpartition(".")
    for ours, theirs in _TOP.items():
        if stem == theirs:
            return f"language_model.{ours}.{kind}", tensor
    _, block, inner = stem.split(".")
    heads = _permuted_heads(inner, config)
    ours = f"language_model.model.layers.{block}.{_BLOCK_BACK[inner]}.{kind}"
    return ours, tensor if heads is None else separate(tensor, heads)


def extra_tensors(config: Any) -> Iterator[tuple[str, Tensor]]:
    """What llama.cpp takes as a tensor and transformers computes."""
    if rope_type(config) == "llama3":
        stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        yield ROPE_FACTORS, plain_frequencies(config) / stretched


def plain_frequencies(config: Any) -> Tensor:
    """The rotary frequencies before any stretching: theta^(-2i/d) (Su et al. 2021, section 3.2.2)."""
    head = head_width(config)
    exponents = torch.arange(0, head, 2, dtype=torch.float32) / head
    frequencies: Tensor = 1.0 / config.rope_parameters["rope_theta"] ** exponents
    return frequencies


def head_width(config: Any) -> int:
    """Numbers in an attention head."""
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width


def interleave(tensor: Tensor, heads: int) -> Tensor:
    """Rows of each head from halves (0 1 2 | 3 4 5) to pairs (0 3 1 4 2 5); of weights or biases."""
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, half, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def separate(tensor: Tensor, heads: int) -> Tensor:
    """The inverse of `interleave`."""
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, half, 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _permuted_heads(inner: str, config: Any) -> int | None:
    """How many heads of a block's tensor are interleaved; None where nothing is."""
    if ARCHITECTURES[config.model_type] != "llama":
        return None
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    return heads.get(inner)
