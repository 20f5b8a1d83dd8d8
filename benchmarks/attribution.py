"""Ways to say which features of a picture mattered, beside the one that the product takes.

Comes in: an `Asked`. Goes out: float32[M], one number per feature. Attention weights and their gradients come through
transformers' attention interface: for the time of one call the model computes its attention by the function below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from sightline.infer.relevance import Asked, Method, integrated_gradients
from sightline.model.packed import band

NAME = "sightline_heard"


def heard_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    heard: list[Tensor],
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """One unpadded row, as transformers calls it; the weights [1, H, T, T] are appended to `heard`."""
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    unseen = ~band(length, sliding_window or length, device=query.device)
    weights = scores.masked_fill(unseen, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype)
    heard.append(weights)
    return (weights @ value).transpose(1, 2), None


AttentionInterface.register(NAME, heard_attention)


@contextmanager
def _listening(language: Any) -> Iterator[None]:
    before = language.config._attn_implementation
    language.set_attn_implementation(NAME)
    try:
        yield
    finally:
        language.set_attn_implementation(before)


def attention(asked: Asked) -> tuple[list[Tensor], list[Tensor]]:
    """The layers' weights [H, T, T] and the score's gradients with respect to them."""
    heard: list[Tensor] = []
    language = asked.model.language
    with _listening(language), torch.enable_grad():
        embeddings = asked.embeddings.detach().requires_grad_()
        output = language(inputs_embeds=embeddings, logits_to_keep=asked.before, use_cache=False, heard=heard)
        from sightline.infer.relevance import log_odds

        score = log_odds(output.logits.float(), asked.tokens).sum()
        gradients = torch.autograd.grad(score, heard)
    return [weights[0].detach() for weights in heard], [gradient[0] for gradient in gradients]


def plain_attention(asked: Asked) -> Tensor:
    """What the predicting positions attend to, over all layers and heads."""
    weights, _ = attention(asked)
    return sum(layer[:, asked.before][..., asked.places].mean(0).sum(0) for layer in weights)  # type: ignore[return-value]


def last_attention(asked: Asked) -> Tensor:
    weights, _ = attention(asked)
    return weights[-1][:, asked.before][..., asked.places].mean(0).sum(0)


def attention_rollout(asked: Asked) -> Tensor:
    """Abnar and Zuidema 2020, section 3."""
    weights, _ = attention(asked)
    flow = torch.eye(weights[0].shape[-1])
    for layer in weights:
        flow = (0.5 * layer.mean(0) + 0.5 * torch.eye(len(flow))) @ flow
    return flow[asked.before][:, asked.places].sum(0)


def attention_gradient(asked: Asked) -> Tensor:
    """Relu of weight times gradient, in the predicting positions' rows, over all layers."""
    pairs = zip(*attention(asked), strict=True)
    return sum((w * g).relu().mean(0)[asked.before][:, asked.places].sum(0) for w, g in pairs)  # type: ignore[return-value]


def attention_gradient_all(asked: Asked) -> Tensor:
    """The same over the rows of all positions that are no picture's: words gather on the way to the answer."""
    pairs = zip(*attention(asked), strict=True)
    text = torch.ones(asked.embeddings.shape[1], dtype=torch.bool)
    text[asked.places] = False
    return sum((w * g).relu().mean(0)[text][:, asked.places].sum(0) for w, g in pairs)  # type: ignore[return-value]


def attention_gradient_signed(asked: Asked) -> Tensor:
    """Without the relu per head and row: what all text rows take from each place, positive part of the sum."""
    pairs = zip(*attention(asked), strict=True)
    text = torch.ones(asked.embeddings.shape[1], dtype=torch.bool)
    text[asked.places] = False
    found: Tensor = sum((w * g).sum(0)[text][:, asked.places].sum(0) for w, g in pairs)  # type: ignore[assignment]
    return found.relu()


def chefer(asked: Asked) -> Tensor:
    """Chefer et al. 2021, equations 5 and 6: relevance rolled through the layers' positive weight times gradient."""
    relevance = torch.eye(asked.embeddings.shape[1])
    for weights, gradient in zip(*attention(asked), strict=True):
        relevance = relevance + (weights * gradient).relu().mean(0) @ relevance
    return relevance[asked.before][:, asked.places].sum(0)


def gradient(asked: Asked, *, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    features = asked.features[None].detach().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(asked.score(features).sum(), features)
    return reduce(found[0].float(), asked.features.float())


def occlusion(asked: Asked, *, window: int, base: str = "blank", rows: int = 64, insert: bool = False) -> Tensor:
    """How far the score falls when a window of patches is blank, averaged over the windows that a patch is in."""
    side = round(len(asked.places) ** 0.5)
    hidden = windows(side, window)
    features = asked.features
    empty = {"blank": asked.blank, "mean": features.mean(0, keepdim=True).expand_as(features)}[base]
    with torch.no_grad():
        scores = torch.cat(
            [asked.score(torch.where(part[..., None] ^ insert, empty, features)) for part in hidden.split(rows)]
        )
        whole = asked.score((empty if insert else features)[None])
    fall = (scores - whole) if insert else (whole - scores)
    return (fall[:, None] * hidden).sum(0) / hidden.sum(0)


def windows(side: int, window: int) -> Tensor:
    """bool[(side + window - 1)^2, side^2]: all windows that touch the grid."""
    found = []
    for top in range(1 - window, side):
        for left in range(1 - window, side):
            mask = torch.zeros(side, side, dtype=torch.bool)
            mask[max(top, 0) : top + window, max(left, 0) : left + window] = True
            found.append(mask.flatten())
    return torch.stack(found)


def both_ways(asked: Asked, *, window: int) -> Tensor:
    return occlusion(asked, window=window) + occlusion(asked, window=window, insert=True)


def mean_base(asked: Asked, *, steps: int) -> Tensor:
    from dataclasses import replace

    mean = asked.features.mean(0, keepdim=True).expand_as(asked.features)
    return integrated_gradients(replace(asked, blank=mean), steps=steps)


def relu(method: Method) -> Method:
    return lambda asked: method(asked).relu()


def absolute(method: Method) -> Method:
    return lambda asked: method(asked).abs()


METHODS: dict[str, Method] = {
    "attention, last layer": last_attention,
    "attention": plain_attention,
    "attention rollout": attention_rollout,
    "attention x gradient": attention_gradient,
    "attention x gradient, all": attention_gradient_all,
    "attention x gradient, signed": attention_gradient_signed,
    "chefer": chefer,
    "gradient norm": partial(gradient, reduce=lambda g, x: g.norm(dim=-1)),
    "gradient x feature, abs": partial(gradient, reduce=lambda g, x: (g * x).sum(-1).abs()),
    "gradient x feature, relu": partial(gradient, reduce=lambda g, x: (g * x).sum(-1).relu()),
    "ig 1 relu": relu(partial(integrated_gradients, steps=1)),
    "ig 4 relu": relu(partial(integrated_gradients, steps=4)),
    "ig 8 relu": relu(partial(integrated_gradients, steps=8)),
    "ig 32 relu": relu(partial(integrated_gradients, steps=32)),
    "ig 8 abs": absolute(partial(integrated_gradients, steps=8)),
    "ig 8 mean relu": relu(partial(mean_base, steps=8)),
    "occlusion 1": relu(partial(occlusion, window=1)),
    "occlusion 2": relu(partial(occlusion, window=2)),
    "occlusion 3": relu(partial(occlusion, window=3)),
    "occlusion 2 abs": absolute(partial(occlusion, window=2)),
    "occlusion 2 mean": relu(partial(occlusion, window=2, base="mean")),
    "insertion 2": relu(partial(occlusion, window=2, insert=True)),
    "insertion 3": relu(partial(occlusion, window=3, insert=True)),
    "both 2": relu(partial(both_ways, window=2)),
}
