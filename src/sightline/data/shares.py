"""Which of several processes takes which samples of a step.

Comes in: what each sample costs. Goes out: each process's samples. Does not know what the cost is of, or who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The part of process `rank` of `ranks`; `costs` are float64[N], of all samples, in any unit."""

    rank: int
    ranks: int
    costs: npt.NDArray[np.float64]

    def of(self, indexes: Sequence[int]) -> list[int]:
        """Those of a step's samples that are this process's, in their order."""
        own = shares([float(self.costs[index]) for index in indexes], self.ranks)[self.rank]
        return [indexes[number] for number in own]


def shares(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Which rank takes which of a step's samples, so that all take about as long.

    Longest processing time first (Graham 1969): the dearest that is left goes to whoever has the least to do, at most
    4/3 of the best possible. A function of the arguments alone.

    Returns:
        For each rank numbers of samples, ascending; each number once.
    """
    found: list[list[int]] = [[] for _ in range(ranks)]
    load = [0.0] * ranks
    for number in sorted(range(len(costs)), key=lambda number: (-costs[number], number)):
        least = min(range(ranks), key=lambda rank: (load[rank], len(found[rank]), rank))
        found[least].append(number)
        load[least] += costs[number]
    return [sorted(own) for own in found]
