"""What a conversation has been through, so that nothing of it is computed twice.

Comes in: the prompt of each turn, whole. Goes out: how much of it the model has already seen, and the features of the
pictures that it was shown. After an error in the middle of a step it knows less, never something wrong: `ids` are the
positions that every layer of the cache has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from sightline.model.cache import cut
from sightline.model.vlm import VisionLanguageModel


@dataclass
class Memory:
    """Of one conversation.

    Attributes:
        image_tokens: K, the placeholders of one picture.
        ids: of the positions in `cache`.
        features: [N, K, C], of the pictures shown so far, from the encoder.
    """

    image_tokens: int
    ids: list[int] = field(default_factory=list)
    cache: Any = None
    features: Tensor | None = None

    @property
    def pictures(self) -> int:
        """How many pictures are known."""
        return 0 if self.features is None else len(self.features)

    def keep_pictures(self, count: int, *, image_token_id: int) -> None:
        """Knows only the first `count` pictures from now on, and nothing that came after them."""
        if self.features is None or count >= len(self.features):
            return
        self.features = self.features[:count]
        places = [place for place, token in enumerate(self.ids) if token == image_token_id]
        self.ids = self.ids[: [*places, len(self.ids)][min(count * self.image_tokens, len(places))]]

    def embed(self, model: VisionLanguageModel, ids: Sequence[int], pixels: Tensor) -> Tensor:
        """A prompt's embeddings [1, T, D]; `pixels` are those of its pictures that are not known yet."""
        device = next(model.parameters()).device
        if len(pixels):
            seen = model.vision(pixels.to(device))
            self.features = seen if self.features is None else torch.cat([self.features, seen])
        return model.embed(torch.tensor([ids], device=device), None, features=self.features)

    def resume(self, ids: Sequence[int]) -> int:
        """How many of the prompt's positions the cache has; what differs is forgotten. At least one is left to see."""
        known = min(common_prefix(self.ids, ids), len(ids) - 1)
        if self.cache is None or not cut(self.cache, known):
            self.cache, known = None, 0
        self.ids = list(ids[:known])
        return known


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading ids are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
