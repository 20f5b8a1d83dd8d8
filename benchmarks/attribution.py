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

from sightline.infer.relevance import Asked, Method, integrated_gradients, log_odds
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


def chefer(asked: Asked) -> Tensor:
    """Chefer et al. 2021, equations 5 and 6: relevance rolled through the layers' positive weight times gradient."""
    relevance = torch.eye(asked.embeddings.shape[1])
    for weights, gradient in zip(*attention(asked), strict=True):
        relevance = relevance + (weights * gradient).relu().mean(0) @ relevance
    return relevance[asked.before][:, asked.places].sum(0)


def gradient(asked: Asked, *, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The score's gradient with respect to the features, and the features, reduced to a number each."""
    features = asked.features[None].detach().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(asked.score(features).sum(), features)
    return reduce(found[0].float(), asked.features.float())


def blank(asked: Asked) -> Tensor:
    """[M, D], what a picture all of mean color would have in these places."""
    model = asked.model
    side = model.vision.image_size
    found: Tensor = model.connector(model.vision(torch.zeros(1, 3, side, side, device=asked.places.device)))
    return found.expand(asked.pictures, -1, -1).flatten(0, 1).to(asked.embeddings.dtype)


def gradients_from_blank(asked: Asked, *, steps: int) -> Tensor:
    return integrated_gradients(asked, steps=steps, start=blank(asked))


def occlusion(
    asked: Asked, *, window: int, empty: Callable[[Asked], Tensor] = blank, insert: bool = False, rows: int = 64
) -> Tensor:
    """How far the score falls when a window of patches is empty, averaged over the windows that a patch is in.

    Args:
        insert: how far it rises when all is empty but the window.
    """
    hidden = windows(round(len(asked.places) ** 0.5), window)
    features, nothing = asked.features, empty(asked)
    parts = [torch.where(part[..., None] ^ insert, nothing, features) for part in torch.split(hidden, rows)]
    scores = torch.cat([asked.score(part) for part in parts])
    whole = asked.score((nothing if insert else features)[None])
    change = (scores - whole) if insert else (whole - scores)
    return (change[:, None] * hidden).sum(0) / hidden.sum(0)


def windows(side: int, window: int) -> Tensor:
    """bool[(side + window - 1)^2, side^2]: all windows that touch the grid."""
    found = []
    for top in range(1 - window, side):
        for left in range(1 - window, side):
            mask = torch.zeros(side, side, dtype=torch.bool)
            mask[max(top, 0) : top + window, max(left, 0) : left + window] = True
            found.append(mask.flatten())
    return torch.stack(found)


METHODS: dict[str, Method] = {
    "attention, last layer": last_attention,
    "attention": plain_attention,
    "attention rollout": attention_rollout,
    "attention x gradient": attention_gradient,
    "attention x gradient, all rows": attention_gradient_all,
    "attention x gradient, rolled out": chefer,
    "gradient norm": partial(gradient, reduce=lambda gradient, feature: gradient.norm(dim=-1)),
    "gradient x feature": partial(gradient, reduce=lambda gradient, feature: (gradient * feature).sum(-1)),
    "integrated gradients from blank, 1": partial(gradients_from_blank, steps=1),
    "integrated gradients from blank, 4": partial(gradients_from_blank, steps=4),
    "integrated gradients from blank, 8": partial(gradients_from_blank, steps=8),
    "integrated gradients, 1": partial(integrated_gradients, steps=1),
    "integrated gradients, 8": partial(integrated_gradients, steps=8),
    "occlusion, 1 x 1": partial(occlusion, window=1),
    "occlusion, 2 x 2": partial(occlusion, window=2),
    "occlusion, 3 x 3": partial(occlusion, window=3),
    "occlusion by means, 2 x 2": partial(occlusion, window=2, empty=lambda asked: asked.means),
    "insertion, 2 x 2": partial(occlusion, window=2, insert=True),
}
