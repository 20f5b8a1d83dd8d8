"""The order of the samples: which ones make up the batch of a step.

Comes in: how many samples there are, the batch size, a seed, a step. Goes out: the indexes of that step's samples, a
pure function of these four numbers, so that resuming a run is knowing its step. Does not know what a sample is.
"""

from __future__ import annotations

import functools
import math

import numpy as np


def batch_indexes(step: int, *, num_samples: int, batch: int, seed: int) -> list[int]:
    """The samples of one step, counted from 0.

    The samples form an endless row: each epoch is a permutation of its own, and batches are cut from the row without
    regard to the borders between epochs, so every sample occurs exactly once per epoch and none is dropped.
    """
    first = step * batch
    return [_sample_at(position, num_samples, seed) for position in range(first, first + batch)]


def _sample_at(position: int, num_samples: int, seed: int) -> int:
    epoch, place = divmod(position, num_samples)
    return int(_permutation(epoch, num_samples, seed)[place])


@functools.lru_cache(maxsize=3)
def _permutation(epoch: int, num_samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples).astype(np.int32)


def total_steps(*, num_samples: int, batch: int, epochs: float) -> int:
    """Steps that see every sample `epochs` times; the last step is filled from the next epoch. At least one."""
    return max(1, math.ceil(round(num_samples * epochs, 6) / batch))
