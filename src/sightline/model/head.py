"""What lies between a causal language model's last hidden states and its logits.

Comes in: a transformers language model, with or without adapters. Goes out: its decoder, whether its head is a plain
product, and the hidden states at chosen positions. Nothing is known about particular models: two tokens are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sightline.model.few_rows import FewRowsLinear
from sightline.model.packed import NAME, packing_arguments

ROUNDING, ROUNDING_OF = 2e-2, {torch.float32: 1e-3}
"""How far one layer's states of a position, relative to their norm, may be from those that were made with others'
beside them: half precision rounds each number by up to 2^-9 of it, a few times; TensorFloat-32 by 2^-11."""


def decoder(language: Any) -> Any:
    """A causal language model without its head; adapters of peft stay in it."""
    return (language.get_base_model() if hasattr(language, "get_base_model") else language).base_model


def has_plain_head(language: Any) -> bool:
    """Whether the logits are the head's product with the states of `states_at` and nothing more.

    Not so where a model caps or scales its logits (Gemma 2, Granite), or where the head is adapted or quantised.
    """
    head = language.get_output_embeddings()
    if type(head) not in (nn.Linear, FewRowsLinear):
        return False
    was_training = language.training
    language.eval()
    tokens = torch.arange(2, device=head.weight.device)[None]
    rows = packing_arguments([2]) if language.config._attn_implementation == NAME else {}
    try:
        with torch.no_grad():
            logits = language(input_ids=tokens, use_cache=False, **rows).logits
            states = decoder(language)(input_ids=tokens, use_cache=False, **rows).last_hidden_state
            plain = head(states)
            second = states_at(language, tokens == 1, input_ids=tokens, **rows)
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return False
    finally:
        language.train(was_training)
    allowed = ROUNDING if torch.is_autocast_enabled(tokens.device.type) else ROUNDING_OF.get(states.dtype, ROUNDING)
    close = (second - states[0, 1:]).norm() <= allowed * states[0, 1:].norm()
    return torch.equal(logits, plain) and bool(close)


def states_at(language: Any, keep: Tensor, **arguments: Any) -> Tensor:
    """The last hidden states at the positions `keep`, bool[B, T]: [n, D] in reading order, as the head takes them.

    In the last layer the other positions serve as keys and values alone: what makes queries, the attention's output and
    the MLP are spared them. Not so where activations are recomputed: by then the positions are forgotten.
    """
    inner = decoder(language)
    places = keep.flatten().nonzero().squeeze(1)
    with ExitStack() as block:
        if not getattr(_last_layer(inner), "gradient_checkpointing", False):
            for module in position_wise(inner):
                block.enter_context(_only_at(module, places))
        states: Tensor = inner(use_cache=False, **arguments).last_hidden_state
    return states[keep]


def position_wise(inner: Any) -> list[nn.Module]:
    """The last layer's modules that look at each position for itself, and of which no other position sees anything."""
    layer = _last_layer(inner)
    attention = getattr(layer, "self_attn", None)
    found = (getattr(layer, "mlp", None), getattr(attention, "q_proj", None), getattr(attention, "o_proj", None))
    return [module for module in found if isinstance(module, nn.Module)]


def _last_layer(inner: Any) -> nn.Module | None:
    layers = getattr(inner, "layers", None)
    return layers[-1] if isinstance(layers, nn.ModuleList) else None


@contextmanager
def _only_at(module: nn.Module, places: Tensor) -> Iterator[None]:
    """In the block the module sees the positions `places`, int64[n] over all rows, and gives zeros elsewhere."""
    shape: list[torch.Size] = []

    def pick(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = arguments
        shape.append(hidden.shape[:-1])
        return (hidden.flatten(0, 1).index_select(0, places)[None],)

    def put_back(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = shape.pop()
        whole = output.new_zeros(rows.numel(), output.shape[-1])
        return whole.index_copy(0, places, output[0]).view(*rows, -1)

    handles = module.register_forward_pre_hook(pick), module.register_forward_hook(put_back)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
