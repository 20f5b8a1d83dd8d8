"""How far a mean over questions may be off, from the questions alone.

Comes in: each question's value. Goes out: the mean with its 95% interval. Pure; the draws depend on a fixed seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sightline.evaluate.compare import SEED, bootstrap

Z = 1.959963984540054
"""The normal distribution's quantile at 0.975."""


class Interval(NamedTuple):
    """`n` values, their mean, and between which bounds it is."""

    n: int
    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Of right and wrong by Wilson's score, which holds for few and for extreme ones too; of others by the bootstrap.

    Args:
        values: at least one.
    """
    n, mean = len(values), math.fsum(values) / len(values)
    if all(value in (0, 1) for value in values):
        return Interval(n, mean, *wilson(mean, n))
    return Interval(n, mean, *bootstrap(Counter(values), seed=SEED))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The score interval of a share of n (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1).

    It holds the share, also where a sum that is rounded would leave it out.
    """
    square = Z * Z / n
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
