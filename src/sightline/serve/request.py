"""What goes into the engine and what comes out of it.

Comes in: nothing. Goes out: `Request` and the events `Piece`, `End` and `Fault`. Knows no model and no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from sightline.infer.sampling import Sampling
from sightline.infer.words import StopRule
from sightline.serve.shelf import Pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """A token and the logarithm of its probability, before temperature and cuts."""

    token: int
    logprob: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One token. `text` is what can be shown with it; `chances` are the token's own, then the likeliest, if asked."""

    text: str
    chances: tuple[Chance, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The answer is whole. `reason` is `stop`, or `length` where it was cut."""

    reason: str
    prompt_tokens: int
    tokens: int
    reused: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """There will be no more: `cancelled`, `timeout`, `failed`, `memory` (there was too little), or `stopping`."""

    code: str


Event = Piece | End | Fault


@dataclass(eq=False, kw_only=True, slots=True)
class Request:
    """One prompt that wants an answer.

    Attributes:
        ids: with K placeholders per picture; fewer than the context has positions.
        pixels: float32[N, 3, H, W], of all pictures; `pictures` are their `picture_keys`.
        top: how many of the likeliest tokens are told with each one; None: no chances at all.
        deliver: called from the engine's thread; must not wait.
        deadline, arrived: by `time.monotonic`.
        cancelled: set from any thread: nobody wants the answer any more.
    """

    ids: list[int]
    pixels: Tensor
    pictures: Pictures
    sampling: Sampling
    stop: StopRule
    top: int | None
    deliver: Callable[[Event], None]
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False


def chances_of(logits: Tensor, token: int, top: int) -> tuple[Chance, ...]:
    """float[V] -> those of the chosen token, then of the `top` likeliest."""
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(top, len(logprobs)))
    pairs = [(token, logprobs[token].item()), *zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    return tuple(Chance(token=number, logprob=logprob) for number, logprob in pairs)
