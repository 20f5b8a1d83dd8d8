"""From logits to the next token.

Comes in: logits of one position. Goes out: a token id for each row. Small and pure; does not know models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 takes the likeliest; `top_k` 0 and `top_p` 1 leave all tokens in."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise ConfigError(f"temperature: found {self.temperature}, expected 0 (greedy) or a positive number")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: found {self.top_p}, expected more than 0 and at most 1")
        if self.top_k < 0:
            raise ConfigError(f"top_k: found {self.top_k}, expected 0 (all) or a positive number")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: found {self.max_new_tokens}, expected at least 1")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """float[B, V] -> the distribution that is drawn from, float32[B, V]: temperature, then top-k, then top-p.

    Top-p keeps the smallest set of likeliest tokens whose probability reaches p (Holtzman et al. 2020, section 3.1), at
    least one. However small temperature and p are, the likeliest token stays.
    """
    logits = logits.float()
    below = logits - logits.amax(-1, keepdim=True)  # of the likeliest 0, which no temperature makes infinite
    scaled = below / max(sampling.temperature, torch.finfo(torch.float32).tiny)
    if 0 < sampling.top_k < scaled.shape[-1]:
        weakest = scaled.topk(sampling.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < weakest, -torch.inf)
    chances = scaled.softmax(-1)
    if sampling.top_p < 1:
        ordered, index = chances.sort(-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= sampling.top_p
        beyond[:, 0] = False  # a p that is 0 in float32 would leave nothing
        chances = torch.zeros_like(chances).scatter(-1, index, ordered.masked_fill(beyond, 0.0))
    return chances / chances.sum(-1, keepdim=True)


def choose(logits: Tensor, sampling: Sampling, generators: Sequence[torch.Generator] | None) -> Tensor:
    """float[B, V] -> the next ids, int64[B]; with `generators`, each row is drawn by its own."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    chances = probabilities(logits, sampling)
    if generators is None:
        return torch.multinomial(chances, 1).squeeze(-1)
    drawn = [torch.multinomial(row, 1, generator=own) for row, own in zip(chances, generators, strict=True)]
    return torch.cat(drawn)
