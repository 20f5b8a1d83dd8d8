"""Two files of answers to the same questions, question by question.

Comes in: each question's value under either. Goes out: wins and losses, the difference with its interval, and how
likely so uneven a split would be by chance. Pure; the draws depend on the seed alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0
CHUNK = 2**22
"""Counts that are drawn at once, so that many different differences do not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of the first against the other.

    Attributes:
        n: units that both have; `left_out` are those that one of them alone has.
        wins, losses, ties: units on which the first is better, worse, the same.
        difference: of the means; `low` and `high` bound it (paired bootstrap, percentiles, 95%).
        p_value: McNemar's exact test of wins against losses, two-sided.
    """

    n: int
    left_out: int
    wins: int
    losses: int
    ties: int
    mean: float
    other_mean: float
    difference: float
    low: float
    high: float
    p_value: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(first: Mapping[str, float], other: Mapping[str, float], *, seed: int = SEED) -> Comparison | None:
    """None if they have no unit in common."""
    shared = [name for name in first if name in other]
    if not shared:
        return None
    differences = Counter(first[name] - other[name] for name in shared)
    wins = sum(count for difference, count in differences.items() if difference > 0)
    losses = sum(count for difference, count in differences.items() if difference < 0)
    low, high = bootstrap(differences, seed=seed)
    mean = sum(first[name] for name in shared) / len(shared)
    other_mean = sum(other[name] for name in shared) / len(shared)
    return Comparison(
        n=len(shared),
        left_out=len(first.keys() ^ other.keys()),
        wins=wins,
        losses=losses,
        ties=len(shared) - wins - losses,
        mean=mean,
        other_mean=other_mean,
        difference=mean - other_mean,
        low=low,
        high=high,
        p_value=mcnemar(wins, losses),
        seed=seed,
    )


def bootstrap(differences: Mapping[float, int], *, seed: int) -> tuple[float, float]:
    """The middle 95% of the means of as many units, drawn with replacement (Efron 1979).

    Args:
        differences: how many units have each difference. Drawing units is drawing how often each difference comes.
    """
    values = np.array(sorted(differences))
    counts = np.array([differences[value] for value in values])
    total = int(counts.sum())
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(values))
    means = []
    for start in range(0, RESAMPLES, rows):
        drawn = rng.multinomial(total, counts / total, size=min(rows, RESAMPLES - start))
        means.append(drawn @ values / total)
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def mcnemar(wins: int, losses: int) -> float:
    """How likely a split at least as uneven is when either side is as likely to win: the two-sided binomial test.

    McNemar 1947, in its exact form. 1 without wins and losses.
    """
    n, least = wins + losses, min(wins, losses)
    if not n:
        return 1.0
    total = n * math.log(2)
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - total for k in range(least + 1)]
    top = max(logs)
    return min(1.0, 2 * math.exp(top) * math.fsum(math.exp(one - top) for one in logs))


def table(found: Comparison) -> str:
    """For people."""
    lines = [
        f"against the other: {found.wins:,} wins, {found.losses:,} losses, {found.ties:,} ties on {found.n:,} units",
        f"mean {found.mean:.4f} against {found.other_mean:.4f}: {found.difference:+.4f}",
        f"95% of it from {found.low:+.4f} to {found.high:+.4f} (paired bootstrap, seed {found.seed})",
        f"McNemar's exact test: p = {found.p_value:.3g}",
    ]
    if found.left_out:
        lines.append(f"{found.left_out:,} units have a value in one of them alone, and are left out")
    return "\n".join(lines)
