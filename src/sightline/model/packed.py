"""Attention over packed rows: samples one behind another in one row, each of which sees itself alone.

Comes in: a transformers language model. Goes out: the same, whose attention reads the samples' lengths from the call.
No mask over the row is built: the cost grows with the sum of the squares of the lengths. No model is patched; this is
one more function behind transformers' attention interface, and a probe of a few tokens tells whether a model really
goes through it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

NAME = "sightline_packed"
"""Among transformers' attention implementations."""
PROBE_LENGTHS = (3, 5)
"""Tokens of the two samples that a model is tried with."""
PROBE_TOLERANCE = 1e-2
"""Of the largest logit: far below what a sample's neighbor would change."""
ROUNDINGS = 4
"""How many times what the same samples differ by when each is there twice. In half precision a deep model's logits
depend on the shape of its products by about a hundredth."""
_KNOWN = frozenset(
    {"is_causal", "position_ids", "use_cache", "cache_position", "output_attentions", "output_router_logits"}
)
"""Arguments of an attention call that leave its result alone."""
_WINDOWS = frozenset({"sliding_attention", "chunked_attention"})
"""Of transformers' kinds of layers (`layer_types`) those that do not see all that came before."""


def packing_arguments(lengths: Sequence[int]) -> dict[str, Any]:
    """What a forward call is given beside its `position_ids`, for a row of samples of these lengths."""
    return {"segment_lengths": tuple(lengths)}


def use_packed_attention(language: Any) -> str | None:
    """Switches a causal language model to packed rows, which are all that it takes from then on (`usual_attention`).

    Returns:
        None, or why this model cannot; it is then left as it was.
    """
    before = language.config._attn_implementation
    try:
        separate = _probe(language, packed=False)
        rounding = (_probe(language, packed=False, times=2) - separate).abs().max().item()
        language.set_attn_implementation(NAME)
        together = _probe(language, packed=True)
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError) as error:
        fault: str | None = str(error).partition("\n")[0]
    else:
        apart = (together - separate).abs().max().item()
        close = apart <= max(PROBE_TOLERANCE * separate.abs().max().item(), ROUNDINGS * rounding)
        fault = None if close else f"samples in one row change each other's logits by {apart:.2g}"
    if fault is not None and language.config._attn_implementation != before:
        language.set_attn_implementation(before)
    return fault


@contextmanager
def usual_attention(language: Any) -> Iterator[None]:
    """In the block, a model of packed rows has the attention that it would be loaded with: it takes a cache, padding
    and a mask, and no packed rows. Any other model is left as it is."""
    if language.config._attn_implementation != NAME:
        yield
        return
    language.set_attn_implementation(language.get_correct_attn_implementation(None))
    try:
        yield
    finally:
        language.set_attn_implementation(NAME)


@torch.no_grad()
def _probe(language: Any, *, packed: bool, times: int = 1) -> Tensor:
    """Logits [8, V] of two samples, in one row or each in its own, which may be there several times."""
    was_training = language.training
    language.eval()
    embedding = language.get_input_embeddings()
    rows = torch.arange(sum(PROBE_LENGTHS), device=embedding.weight.device) % embedding.weight.shape[0]
    samples = rows.split(PROBE_LENGTHS)
    try:
        if not packed:
            alone = [sample.expand(times, -1) for sample in samples]
            return torch.cat([language(input_ids=ids, use_cache=False).logits[0] for ids in alone])
        positions = torch.cat([torch.arange(length, device=rows.device) for length in PROBE_LENGTHS])
        output = language(
            input_ids=rows[None],
            position_ids=positions[None],
            use_cache=False,
            **packing_arguments(PROBE_LENGTHS),
        )
        logits: Tensor = output.logits[0]
        return logits
    finally:
        language.train(was_training)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segment_lengths: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query [1, H, T, d], key and value [1, G, T, d] -> [1, T, H, d], and no weights.

    Args:
        segment_lengths: of the samples in the row; their sum is T.
        sliding_window: positions that a query sees, its own among them.
        softcap: the limit c of c tanh(score / c) (Gemma 2, Riviere et al. 2024, section 2).

    Raises:
        NotImplementedError: the model does not pass the lengths on, or wants what is not known here.
    """
    unknown = sorted(name for name, value in others.items() if value is not None and name not in _KNOWN)
    if segment_lengths is None:
        raise NotImplementedError(f"{type(module).__name__} is not given the samples' lengths")
    if unknown or attention_mask is not None or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"{type(module).__name__} has an attention of its own ({', '.join(unknown)})")
    if sliding_window is None and has_window(module):
        raise NotImplementedError(f"{type(module).__name__} has a window that its mask alone knows")
    query, key, value = in_autocast_type(query, key, value)
    window = sliding_window if sliding_window is not None and sliding_window < max(segment_lengths) else None
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not (dropout or softcap):
        return _varlen(query, key, value, segment_lengths, scaling=scaling, window=window), None
    one = _plain if softcap is None else partial(_capped, softcap=softcap)
    parts = (torch.split(tensor, list(segment_lengths), dim=2) for tensor in (query, key, value))
    pieces = [one(*tensors, scaling=scaling, dropout=dropout, window=window) for tensors in zip(*parts, strict=True)]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def has_window(module: torch.nn.Module) -> bool:
    """Whether a layer's configuration, which transformers' masks go by, lets it see a part of what came before."""
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return bool(getattr(config, "sliding_window", None))
    layer: int = module.layer_idx  # type: ignore[assignment]
    return kinds[layer] in _WINDOWS


def in_autocast_type(*tensors: Tensor) -> list[Tensor]:
    """Under autocast, in its type: where the embeddings are in fp32, so are queries and keys once they were turned."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]


def _plain(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float | None, dropout: float, window: int | None
) -> Tensor:
    """One sample: [1, H, L, d] and [1, G, L, d] -> [1, H, L, d]."""
    length = query.shape[2]
    seen = None if window is None or length <= window else band(length, window, device=query.device)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=seen,
        dropout_p=dropout,
        is_causal=seen is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float,
) -> Tensor:
    """As `_plain`, with soft-capped scores."""
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    unseen = ~band(length, window or length, device=query.device)
    weights = scores.masked_fill(unseen, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype)
    return functional.dropout(weights, dropout) @ value


def band(length: int, window: int, *, device: torch.device) -> Tensor:
    """bool[L, L]: which keys (columns) a query (row) sees: itself and the `window` - 1 before it."""
    place = torch.arange(length, device=device)
    behind = place[:, None] - place
    return (behind >= 0) & (behind < window)


_VARLEN_NAMES = frozenset(inspect.signature(varlen_attn).parameters)
"""torch renamed `is_causal` to `window_size` on the way, and learnt of grouped heads."""


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], *, scaling: float | None, window: int | None
) -> Tensor:
    """All samples in one kernel: torch's variable-length FlashAttention. Shapes as in `packed_attention`."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" not in _VARLEN_NAMES:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
        groups = 1
    causal: dict[str, Any] = {"is_causal": True}
    if "window_size" in _VARLEN_NAMES:
        causal = {"window_size": (-1 if window is None else window - 1, 0)}
    elif window is not None:
        raise NotImplementedError("this torch has no sliding window in varlen_attn")
    bounds = torch.tensor([0, *lengths], device=query.device).cumsum(0).int()
    call: Callable[..., Any] = varlen_attn
    output: Tensor = call(
        *(tensor[0].transpose(0, 1) for tensor in (query, key, value)),
        bounds,
        bounds,
        max(lengths),
        max(lengths),
        scale=scaling,
        **causal,
        **({"enable_gqa": True} if groups > 1 else {}),
    )
    return output[None]


AttentionInterface.register(NAME, packed_attention)
