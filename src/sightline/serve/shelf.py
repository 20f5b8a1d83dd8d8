"""Conversations that were answered, kept so that their next turn starts where they ended.

Comes in: the memory of an answer that is over, and the pictures it was about. Goes out: a copy of what a new prompt has
in common with one of them. A picture is known by the SHA-256 of the pixels that the encoder takes, so two files are
the same picture only where the model could not tell them apart either. Knows no requests and no threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import takewhile

from torch import Tensor

from sightline.infer.memory import Memory, common_prefix
from sightline.model.cache import copy_row
from sightline.model.vlm import VisionLanguageModel

Pictures = tuple[bytes, ...]


def picture_keys(pixels: Tensor) -> Pictures:
    """float32[N, 3, H, W] -> N names."""
    return tuple(hashlib.sha256(picture.numpy().tobytes()).digest() for picture in pixels)


class Shelf:
    """At most `capacity` memories; the one that served nobody for longest goes first."""

    def __init__(self, model: VisionLanguageModel, *, image_tokens: int, capacity: int) -> None:
        self._model = model
        self._image_tokens = image_tokens
        self._capacity = capacity
        self._kept: list[tuple[Pictures, Memory]] = []  # the newest last

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, pictures: Pictures, memory: Memory) -> None:
        """Keeps a memory, instead of those that it continues."""
        self._kept = [
            (shown, kept)
            for shown, kept in self._kept
            if shown != pictures[: len(shown)] or kept.ids != memory.ids[: len(kept.ids)]
        ]
        self._kept = [*self._kept, (pictures, memory)][-self._capacity :] if self._capacity else []

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()

    def recall(self, pictures: Pictures, ids: Sequence[int]) -> Memory:
        """A memory of the longest beginning of a prompt that is known, without features; empty where none is."""
        lengths = [self._known(shown, kept, pictures, ids) for shown, kept in self._kept]
        best = max(range(len(lengths)), key=lengths.__getitem__, default=None)
        memory = Memory(image_tokens=self._image_tokens)
        if best is not None and lengths[best]:
            self._kept.append(self._kept.pop(best))
            kept, known = self._kept[-1][1], lengths[best]
            cache = copy_row(kept.cache, 0, start=0, end=known, config=self._model.language.config)
            if cache is not None:
                memory.cache, memory.ids = cache, list(ids[:known])
        return memory

    def feature(self, picture: bytes) -> Tensor | None:
        """[K, C], what the encoder made of a picture, if a memory has it."""
        for shown, kept in self._kept:
            if picture in shown and kept.features is not None:
                return kept.features[shown.index(picture)]
        return None

    def _known(self, shown: Pictures, kept: Memory, pictures: Pictures, ids: Sequence[int]) -> int:
        """How many positions of the prompt are those of a memory: same ids, and same pictures behind placeholders."""
        common = min(common_prefix(kept.ids, ids), len(ids) - 1)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(shown, pictures, strict=False)))
        places = [place for place, token in enumerate(ids[:common]) if token == self._model.image_token_id]
        allowed = same * self._image_tokens
        return common if len(places) <= allowed else places[allowed]
