"""The order of the samples: which ones make up the batch of a step.

Comes in: how many samples there are, the batch size, a seed, a step, perhaps which samples are of a kind, perhaps how
often those of each source come. Goes out: the indexes of that step's samples, a pure function of these, so that
resuming a run is knowing its step. Does not know what a sample is.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np


class Share(NamedTuple):
    """A source of a mixture: it has `size` samples, and `per_epoch` of them come in each epoch."""

    size: int
    per_epoch: int


Mix = tuple[Share, ...]
"""The sources in order; their samples are counted behind one another."""


def share(size: int, *, weight: float | None, count: int | None) -> Share:
    """The share of a source of `size` samples: all of them, or `weight` times as many (at least one), or `count`."""
    if count is None:
        count = size if weight is None else max(1, round(weight * size))
    return Share(size, count if size else 0)


def batch_indexes(
    step: int, *, num_samples: int, batch: int, seed: int, kinds: bytes | None = None, mix: Mix | None = None
) -> list[int]:
    """The samples of one step, counted from 0.

    The samples form an endless row: each epoch is a permutation of its own, and batches are cut from the row without
    regard to the borders between epochs, so every sample occurs exactly once per epoch and none is dropped.

    Args:
        mix: with it an epoch holds of each source as many samples as that says. Those of a source form an endless row
            too, of which each epoch takes the next stretch: over the epochs all come equally often, to within one.
        kinds: one byte per sample, 0 or 1. With it the permutations are such that a batch holds samples of one kind,
            but for those about the border of an epoch, which take what is left over of both.
    """
    first = step * batch
    length = num_samples if mix is None else epoch_length(mix)
    found = []
    for position in range(first, first + batch):
        epoch, place = divmod(position, length)
        order = _order(epoch, length, seed, batch, kinds) if mix is None else _mixed(epoch, seed, batch, kinds, mix)
        found.append(int(order[place]))
    return found


def epoch_length(mix: Mix) -> int:
    """Samples of an epoch."""
    return sum(each.per_epoch for each in mix)


def _order(epoch: int, num_samples: int, seed: int, batch: int, kinds: bytes | None) -> np.ndarray:
    return _permutation(epoch, num_samples, seed) if kinds is None else _grouped(epoch, seed, batch, kinds)


@functools.lru_cache(maxsize=3)
def _mixed(epoch: int, seed: int, batch: int, kinds: bytes | None, mix: Mix) -> np.ndarray:
    """The epoch's samples, in an order like that of as many samples without a mixture."""
    drawn = epoch_samples(epoch, seed=seed, mix=mix)
    if kinds is not None:
        kinds = np.frombuffer(kinds, dtype=np.uint8)[drawn].tobytes()
    found: np.ndarray = drawn[_order(epoch, len(drawn), seed, batch, kinds)]
    return found


def epoch_samples(epoch: int, *, seed: int, mix: Mix) -> np.ndarray:
    """int32[epoch_length]: which samples the epoch holds, source by source, one as often as it comes."""
    parts: list[np.ndarray] = [np.empty(0, dtype=np.int32)]
    first = 0
    for number, (size, count) in enumerate(mix):
        if count == size:
            parts.append(np.arange(first, first + size, dtype=np.int32))
        else:
            passes = range(epoch * count // size, -(-(epoch + 1) * count // size))
            row = [np.random.default_rng([seed, each, 2, number]).permutation(size) for each in passes]
            start = epoch * count - passes.start * size
            parts.append((first + np.concatenate(row)[start : start + count]).astype(np.int32))
        first += size
    return np.concatenate(parts)


@functools.lru_cache(maxsize=3)
def _permutation(epoch: int, num_samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples).astype(np.int32)


@functools.lru_cache(maxsize=3)
def _grouped(epoch: int, seed: int, batch: int, kinds: bytes) -> np.ndarray:
    """The epoch's permutation, drawn together into whole batches of one kind, which are shuffled in their turn.

    The idea of LLaVA's `get_modality_length_grouped_indices` (llava_trainer.py): what does not fill a batch of its kind
    is mixed. Here the mixed samples also fill the batch that the epoch before has begun.
    """
    order = _permutation(epoch, len(kinds), seed)
    of_order = np.frombuffer(kinds, dtype=np.uint8)[order]
    blocks: list[np.ndarray] = []
    loose: np.ndarray = np.empty(0, dtype=np.int32)
    for kind in (0, 1):
        own = order[of_order == kind]
        whole = len(own) // batch
        blocks += np.split(own[: whole * batch], whole) if whole else []
        loose = np.concatenate([loose, own[whole * batch :]])
    lead = -epoch * len(kinds) % batch  # what the last batch of the epoch before still takes
    shuffled = [blocks[index] for index in np.random.default_rng([seed, epoch, 1]).permutation(len(blocks))]
    while len(loose) < min(lead, len(kinds)):
        loose = np.concatenate([loose, shuffled.pop()])
    return np.concatenate([loose[:lead], *shuffled, loose[lead:]])


def total_steps(*, num_samples: int, batch: int, epochs: float) -> int:
    """Steps that see every sample `epochs` times; the last step is filled from the next epoch. At least one."""
    return max(1, math.ceil(round(num_samples * epochs, 6) / batch))
