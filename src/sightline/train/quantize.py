"""The language model's frozen matrices in four bits, so that a large one fits beside its adapters (QLoRA).

Comes in: a language model in full precision. Goes out: the same model, whose linear layers hold 4-bit NormalFloat with
doubly quantised scales and compute in the run's dtype, through bitsandbytes (Dettmers et al. 2023, sections 2 and 3).
Knows nothing of adapters, optimizers or files: quantised weights are never saved.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import nn

from sightline.errors import ConfigError


def import_bitsandbytes() -> ModuleType:
    """The library that packs four bits.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            "train.quantize: bitsandbytes is not installed; pip install 'sightline[qlora]', or remove train.quantize"
        ) from error
    return bitsandbytes  # type: ignore[no-any-return]


def quantize_language(language: Any, *, device: torch.device, dtype: torch.dtype) -> None:
    """Replaces every linear layer but the output head, one at a time, by its 4-bit form on `device`.

    Args:
        dtype: of the arithmetic; the weights are unpacked to it for every product.

    Raises:
        ConfigError: bitsandbytes is not installed, or there is no linear layer.
    """
    library = import_bitsandbytes()
    head = language.get_output_embeddings()
    layers = {name: module for name, module in language.named_modules() if isinstance(module, nn.Linear)}
    names = [name for name, module in layers.items() if module is not head]
    if not names:
        raise ConfigError(f"train.quantize: {type(language).__name__} has no linear layers; remove train.quantize")
    for name in names:
        language.set_submodule(name, _packed(layers.pop(name), library, device=device, dtype=dtype))
    language.is_loaded_in_4bit = True  # transformers' mark, by which peft chooses its 4-bit adapters


def full_size(parameter: nn.Parameter) -> int:
    """How many numbers a parameter stands for; a quantised one keeps two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(state.shape.numel())


def _packed(layer: nn.Linear, library: ModuleType, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
    packed: nn.Module = library.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, device="meta"
    )
    packed.weight = library.nn.Params4bit(
        layer.weight.detach().to(dtype), requires_grad=False, quant_type="nf4", compress_statistics=True, module=packed
    )
    packed.bias = layer.bias
    return packed.to(device)  # this move quantises
