"""What a language model keeps of the positions it has seen: keys and values that grow in place.

Comes in: a transformers configuration, then keys and values from its attention. Goes out: a transformers cache whose
full-attention layers write new positions into room that was allocated ahead, where transformers' own copy everything
at every step. Layers of other kinds (sliding windows, recurrent states) stay transformers' own; what cannot be done
with them is refused by returning False, so that the caller computes anew. Knows nothing of prompts or tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import cache_utils
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

BLOCK = 256
"""Positions that are allocated at once: one copy of the cache in so many steps."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, [B, H, T, d]: `keys` and `values` are views of the used part of larger tensors.

    The first update keeps what it is given: a prompt's keys are copied once, when the first token comes after them.
    """

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._room: list[Tensor] = []  # none yet: `keys` and `values` are not ours to write to

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends, [B, H, n, d] each; returns all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used: int = self.get_seq_length()
        if used == 0:
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        end = used + key_states.shape[2]
        if not self._room or end > self._room[0].shape[2]:
            self._room = [_with_room(kept, end + BLOCK) for kept in (self.keys, self.values)]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, used:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the rows `indices`, in this order, in place; none may come before its new place."""
        if not self._room:
            super().batch_select_indices(indices)
            return
        length = self.get_seq_length()
        for room in self._room:
            for place, row in enumerate(indices.tolist()):
                assert row >= place
                if row != place:
                    room[place, :, :length] = room[row, :, :length]
        self._room = [room[: len(indices)] for room in self._room]
        self.keys, self.values = (room[:, :, :length] for room in self._room)

    def drop_first(self, count: int) -> None:
        """Forgets the first `count` positions."""
        self._room = [room[:, :, count:] for room in self._room]
        self.keys, self.values = self.keys[:, :, count:], self.values[:, :, count:]


def _with_room(kept: Tensor, length: int) -> Tensor:
    room = kept.new_empty(*kept.shape[:2], length, kept.shape[3])
    room[:, :, : kept.shape[2]] = kept
    return room


def new_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def stackable(config: Any) -> bool:
    """Whether rows of different lengths can be put into one cache for a model of this configuration."""
    return all(map(_is_attention, new_cache(config).layers))


def stack(caches: Sequence[DynamicCache], config: Any) -> DynamicCache:
    """The rows of several caches in one, padded with zeros on the left. Uses the caches up, layer by layer."""
    longest = max(cache.get_seq_length() for cache in caches)
    stacked = new_cache(config)
    for index in range(len(stacked.layers)):
        layers = [cache.layers[index] for cache in caches]
        if layers[0].keys is None:
            continue
        keys, values = (
            torch.cat([_pad_left(getattr(layer, name), longest) for layer in layers]) for name in ("keys", "values")
        )
        for layer in layers:
            layer.keys = layer.values = None
        stacked.update(keys, values, index)
    return stacked


def cut(cache: Any, length: int) -> bool:
    """Shortens every layer of a cache to its first `length` positions, also where a step was broken off between layers.

    Returns:
        False, and nothing is done, where a layer has fewer positions or cannot go back.
    """
    if not all(map(_is_attention, cache.layers)):
        return False
    layers = [layer for layer in cache.layers if layer.keys is not None]
    surplus = [layer.get_seq_length() - length for layer in layers]
    if length == 0 or min(surplus) < 0:
        return False
    if any(count and not _can_go_back(layer) for layer, count in zip(layers, surplus, strict=True)):
        return False
    for layer, count in zip(layers, surplus, strict=True):
        if count:
            layer.crop(-count)
    return True


def drop_first(cache: DynamicCache, count: int) -> bool:
    """Forgets the first `count` positions; False, and nothing done, where a layer cannot."""
    layers = [layer for layer in cache.layers if layer.keys is not None]
    if not all(isinstance(layer, GrowingLayer) for layer in layers):
        return False
    for layer in layers:
        layer.drop_first(count)
    return True


def _is_attention(layer: Any) -> bool:
    """Whether all that a layer keeps is keys and values, or nothing (it uses another layer's)."""
    shared = getattr(cache_utils, "DummyLayer", None)  # transformers has it after 5.17
    return type(layer) in (GrowingLayer, DynamicSlidingWindowLayer, shared)


def _can_go_back(layer: Any) -> bool:
    """A sliding window can until it is full: it has lost nothing yet."""
    return not layer.is_sliding or layer.get_seq_length() < layer.sliding_window


def _pad_left(kept: Tensor, length: int) -> Tensor:
    return functional.pad(kept, (0, 0, length - kept.shape[2], 0))
