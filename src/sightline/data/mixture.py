"""The order of the samples: which ones make up the batch of a step.

Comes in: how many samples there are, the batch size, a seed, a step, perhaps which samples are of a kind. Goes out: the
indexes of that step's samples, a pure function of these, so that resuming a run is knowing its step. Does not know what
a sample is.
"""

from __future__ import annotations

import functools
import math

import numpy as np


def batch_indexes(step: int, *, num_samples: int, batch: int, seed: int, kinds: bytes | None = None) -> list[int]:
    """The samples of one step, counted from 0.

    The samples form an endless row: each epoch is a permutation of its own, and batches are cut from the row without
    regard to the borders between epochs, so every sample occurs exactly once per epoch and none is dropped.

    Args:
        kinds: one byte per sample, 0 or 1. With it the permutations are such that a batch holds samples of one kind,
            but for those about the border of an epoch, which take what is left over of both.
    """
    first = step * batch
    return [_sample_at(place, num_samples, seed, batch, kinds) for place in range(first, first + batch)]


def _sample_at(position: int, num_samples: int, seed: int, batch: int, kinds: bytes | None) -> int:
    epoch, place = divmod(position, num_samples)
    order = _permutation(epoch, num_samples, seed) if kinds is None else _grouped(epoch, seed, batch, kinds)
    return int(order[place])


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
