"""The language model's matrices in eight or four bits, so that a large one fits.

Comes in: a language model in full precision. Goes out: the same model, whose linear layers hold 8-bit integers with one
scale a row (LLM.int8(), Dettmers et al. 2022), or 4-bit NormalFloat with doubly quantised scales (QLoRA, Dettmers et
al. 2023, sections 2 and 3), through bitsandbytes. Knows nothing of adapters, optimizers or files: quantised weights are
never saved.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from sightline.errors import ConfigError, nearest

Scheme = Literal["int8", "nf4"]
SCHEMES: tuple[Scheme, ...] = ("int8", "nf4")
OUTLIER = 6.0
"""Activations from here on are multiplied in 16 bits: LLM.int8(), section 3.2."""


def import_bitsandbytes(key: str) -> ModuleType:
    """The library that packs the bits; `key` is the setting that asked for it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"{key}: bitsandbytes is not installed; pip install 'sightline[qlora]', or remove {key}"
        ) from error
    # It warns at every product that int8 is multiplied in 16 bits, which is what was asked for.
    logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)
    return bitsandbytes  # type: ignore[no-any-return]


def scheme_of(name: str, *, key: str) -> Scheme:
    """A scheme by its name; `ConfigError` where there is none."""
    for scheme in SCHEMES:
        if scheme == name:
            return scheme
    raise ConfigError(f'{key}: "{name}" is none of {", ".join(SCHEMES)}{nearest(name, SCHEMES)}')


def quantize_language(language: Any, scheme: Scheme, *, device: torch.device, dtype: torch.dtype, key: str) -> None:
    """Replaces every linear layer but the output head, one at a time, by its quantised form on `device`.

    Args:
        dtype: of the arithmetic; 4-bit weights are unpacked to it for every product.
        key: the setting that asked for it, for messages.

    Raises:
        ConfigError: bitsandbytes is not installed, or there is no linear layer.
    """
    library = import_bitsandbytes(key)
    head = language.get_output_embeddings()
    layers = {name: module for name, module in language.named_modules() if isinstance(module, nn.Linear)}
    names = [name for name, module in layers.items() if module is not head]
    if not names:
        raise ConfigError(f"{key}: {type(language).__name__} has no linear layers; remove {key}")
    for name in names:
        layer = layers.pop(name)
        packed = _four_bit(layer, library, dtype=dtype) if scheme == "nf4" else _eight_bit(layer, library)
        language.set_submodule(name, packed.to(device))  # this move quantises
    # transformers' mark, by which peft chooses its adapters
    setattr(language, "is_loaded_in_4bit" if scheme == "nf4" else "is_loaded_in_8bit", True)


def full_size(parameter: nn.Parameter) -> int:
    """How many numbers a parameter stands for; one in four bits keeps two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(state.shape.numel())


def _four_bit(layer: nn.Linear, library: ModuleType, *, dtype: torch.dtype) -> nn.Module:
    packed: nn.Module = library.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, device="meta"
    )
    packed.weight = library.nn.Params4bit(
        layer.weight.detach().to(dtype), requires_grad=False, quant_type="nf4", compress_statistics=True, module=packed
    )
    packed.bias = layer.bias
    return packed


def _eight_bit(layer: nn.Linear, library: ModuleType) -> nn.Module:
    packed: nn.Module = library.nn.Linear8bitLt(
        layer.in_features, layer.out_features, bias=False, has_fp16_weights=False, threshold=OUTLIER, device="meta"
    )
    packed.weight = library.nn.Int8Params(layer.weight.detach(), requires_grad=False, has_fp16_weights=False)
    packed.bias = layer.bias
    return packed
