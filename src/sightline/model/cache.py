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
        self._start = 0  # the first used position in the room

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends, [B, H, n, d] each; returns all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used: int = self.get_seq_length()
        if used == 0:
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        rows, new = key_states.shape[0], key_states.shape[2]
        if not self._room or self._start + used + new > self._room[0].shape[2]:
            self._move(rows=min(len(self._room[0]), 2 * rows) if self._room else rows, before=0, after=new)
        end = self._start + used + new
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:rows, :, end - new : end] = states
        self._show(rows, end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the rows `indices`, in this order, in place; none may come before its new place."""
        if not self._room:
            super().batch_select_indices(indices)
            return
        end = self._start + self.get_seq_length()
        for room in self._room:
            for place, row in enumerate(indices.tolist()):
                assert row >= place
                if row != place:
                    room[place, :, self._start : end] = room[row, :, self._start : end]
        self._show(len(indices), end)

    def drop_first(self, count: int) -> None:
        """Forgets the first `count` positions."""
        self._start += count
        self.keys, self.values = self.keys[:, :, count:], self.values[:, :, count:]

    def reserve(self, rows: int, length: int) -> None:
        """Makes room for `rows` rows of `length` positions, so that `join` needs none; nothing else changes."""
        used: int = self.get_seq_length()
        if not self._room:
            self._move(rows=rows, before=length - used, after=0)
        elif rows > len(self._room[0]) or length > self._start + used:
            grown = 2 * len(self._room[0]) if rows > len(self._room[0]) else len(self._room[0])
            self._move(rows=max(rows, grown), before=length - used, after=0)

    def join(self, others: Sequence[DynamicLayer], length: int) -> None:
        """Appends the rows of other layers; all are padded with zeros on the left to `length`, which was reserved."""
        rows, end = self.keys.shape[0], self._start + self.get_seq_length()
        for name, room in zip(("keys", "values"), self._room, strict=True):
            room[:rows, :, end - length : self._start] = 0
            place = rows
            for kept in (getattr(layer, name) for layer in others):
                part = room[place : place + len(kept), :, end - length : end]
                part[:, :, : length - kept.shape[2]] = 0
                part[:, :, length - kept.shape[2] :] = kept
                place += len(kept)
        self._start = end - length
        self._show(place, end)

    def _move(self, *, rows: int, before: int, after: int) -> None:
        """To a larger room, with so many unused positions before and after the used ones, and a block more."""
        kept, (present, heads, used, width) = (self.keys, self.values), self.keys.shape
        before = max(before, 0)
        self._room = [states.new_empty(rows, heads, before + used + after + BLOCK, width) for states in kept]
        for room, states in zip(self._room, kept, strict=True):
            room[:present, :, before : before + used] = states
        self._start = before
        self._show(present, before + used)

    def _show(self, rows: int, end: int) -> None:
        self.keys, self.values = (room[:rows, :, self._start : end] for room in self._room)


def new_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def stackable(config: Any) -> bool:
    """Whether rows of different lengths can be put into one cache for a model of this configuration."""
    return all(map(_is_attention, new_cache(config).layers))


def join(cache: DynamicCache, others: Sequence[DynamicCache]) -> None:
    """Appends the rows of other caches to those of the first; all are padded with zeros on the left to the longest.

    Uses the others up. Where memory does not suffice for growing layers, the first is as it was.
    """
    length = max(each.get_seq_length() for each in (cache, *others))
    rows = sum(len(next(layer.keys for layer in each.layers if layer.keys is not None)) for each in (cache, *others))
    used = [(index, layer) for index, layer in enumerate(cache.layers) if layer.keys is not None]
    for _, layer in used:
        if isinstance(layer, GrowingLayer):
            layer.reserve(rows, length)
    for index, layer in used:
        joining = [other.layers[index] for other in others]
        if isinstance(layer, GrowingLayer):
            layer.join(joining, length)
        else:
            cache.layers[index] = _joined_window([layer, *joining], length)
        for other in joining:
            other.keys = other.values = None


def _joined_window(layers: Sequence[DynamicSlidingWindowLayer], length: int) -> DynamicSlidingWindowLayer:
    window = DynamicSlidingWindowLayer(layers[0].sliding_window)
    keys, values = (
        torch.cat([_pad_left(getattr(layer, name), length) for layer in layers]) for name in ("keys", "values")
    )
    window.update(keys, values)
    return window


def copy_row(cache: DynamicCache, row: int, *, start: int, end: int, config: Any) -> DynamicCache | None:
    """One row's positions from `start` to `end` as a cache of its own; None where a layer does not have them all."""
    if not _keeps_all(cache):
        return None
    copied = new_cache(config)
    for index, layer in enumerate(cache.layers):
        if layer.keys is not None:
            keys, values = (
                states[row : row + 1, :, start:end].clone(memory_format=torch.contiguous_format)
                for states in (layer.keys, layer.values)
            )
            copied.update(keys, values, index)
    return copied


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
    if not _keeps_all(cache):
        return False
    for layer in cache.layers:
        if layer.keys is not None:
            layer.drop_first(count)
    return True


def _keeps_all(cache: DynamicCache) -> bool:
    """Whether every layer that keeps something keeps it of every position."""
    return all(isinstance(layer, GrowingLayer) for layer in cache.layers if layer.keys is not None)


def _is_attention(layer: Any) -> bool:
    """Whether all that a layer keeps is keys and values, or nothing (it uses another layer's)."""
    shared = getattr(cache_utils, "DummyLayer", None)  # transformers has it after 5.17
    return type(layer) in (GrowingLayer, DynamicSlidingWindowLayer, shared)


def _can_go_back(layer: Any) -> bool:
    """A sliding window can until it is full: it has lost nothing yet."""
    return not layer.is_sliding or layer.get_seq_length() < layer.sliding_window


def _pad_left(kept: Tensor, length: int) -> Tensor:
    return functional.pad(kept, (0, 0, length - kept.shape[2], 0))
